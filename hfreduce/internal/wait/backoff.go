// SPDX-License-Identifier: Apache-2.0

package wait

import "runtime"

// Policy says how long a rank without work spins and yields before it sleeps. The zero value sleeps at once.
type Policy struct {
	// Spins is how many steps of one PAUSE come first.
	Spins int
	// Yields is how many steps that give the core away come next.
	Yields int
	// YieldOS makes yield steps offer the core to other threads, also of other processes (sched_yield); otherwise they offer
	// it to other goroutines (runtime.Gosched).
	YieldOS bool
	// GoschedEvery is after how many steps other goroutines of this process get a turn all the same. Zero means never, which
	// is right only on a goroutine that is locked to its thread: there each Gosched costs two thread switches.
	GoschedEvery int
}

// The steps of DefaultPolicy. A look for work takes some 20 ns and each wake-up from sleep about 25 us on virtual machines,
// which a message or a chunk on its way is worth waiting for: the yields, 0.2 us each where nobody takes the core, last a
// multiple of that.
const (
	ownSpins    = 200
	sharedSpins = 1
	yields      = 2000
)

// DefaultPolicy is for a rank that shares cpus processors with ranks (itself included), some of which may be goroutines of
// its own process (crowded).
//
// Where there is a core for each rank it spins, but not for long: two threads may stand on one core although another one is
// free, and then spinning keeps away whom it waits for. With fewer cores than ranks nearly every wait is for a rank that
// has no core, so the core is passed round at once: that takes 1 us, a futex sleep and wake-up several.
func DefaultPolicy(ranks, cpus int, crowded bool) Policy {
	p := Policy{Spins: ownSpins, Yields: yields, YieldOS: true, GoschedEvery: 64}
	if ranks > cpus {
		p.Spins = sharedSpins
	}
	if crowded {
		p.GoschedEvery = 2 // and the core to other processes in between
	}
	return p
}

// LocalPolicy is for ranks that are all goroutines of this process and sleep on bells of NewChan: parking a goroutine is
// cheap, so it spins little, and yields only to other goroutines.
func LocalPolicy(ranks, cpus int) Policy {
	if ranks <= cpus {
		return Policy{Spins: 500, Yields: 10, GoschedEvery: 25}
	}
	return Policy{Yields: 2, GoschedEvery: 1}
}

// Backoff carries a Policy through one wait. It belongs to one goroutine.
type Backoff struct {
	policy Policy
	step   int
}

// NewBackoff returns a Backoff at the start of its first wait.
func NewBackoff(p Policy) Backoff { return Backoff{policy: p} }

// Reset is to be called when there was work: the next wait begins with a spin.
func (b *Backoff) Reset() { b.step = 0 }

// Idle does the next spin or yield step and returns false. When all steps are used up it does nothing and returns true:
// the caller should sleep (Bell.Arm, look again, Bell.Sleep). That stays so until Reset: a wake-up that brought no work
// is no reason to spin again.
func (b *Backoff) Idle() (sleep bool) {
	p := &b.policy
	if b.step >= p.Spins+p.Yields {
		return true
	}
	b.step++
	switch turn := p.GoschedEvery > 0 && b.step%p.GoschedEvery == 0; {
	case turn || b.step > p.Spins && !p.YieldOS:
		runtime.Gosched()
	case b.step > p.Spins:
		yieldOS()
	default:
		Pause(1)
	}
	return false
}
