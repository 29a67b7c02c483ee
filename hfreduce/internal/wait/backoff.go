// SPDX-License-Identifier: Apache-2.0

package wait

import "runtime"

// Policy says how long a rank without work spins and yields before it sleeps. The zero value sleeps at once.
type Policy struct {
	// Spins is how many steps of one PAUSE come first. A wake-up from sleep costs tens of microseconds, so a spin that
	// covers the usual gap between two chunks pays; but on a host with more ranks than cores each spin steals the time
	// of the rank that is waited for.
	Spins int
	// Yields is how many steps that give the core away come next.
	Yields int
	// GoschedEvery is after how many spins, and then on every yield step, other goroutines of this process get their
	// turn (runtime.Gosched): ranks that are goroutines share a P, and the one that spins must not keep the others from
	// it. Zero means never, which is right only on a goroutine that is locked to its thread: there each Gosched costs
	// two thread switches.
	GoschedEvery int
	// YieldOS makes each yield step also offer the core to other processes (sched_yield).
	YieldOS bool
}

// DefaultPolicy is for ranks that are processes, or goroutines of a few processes: ranksOnHost of them share cpus cores.
// With a core for each rank they spin for some tens of microseconds and then sleep. With fewer cores than ranks they
// spin shortly and then pass the core round: between ranks that all have work soon, sched_yield is several times faster
// than a futex sleep and wake-up.
//
// A process that is pinned to one core sees cpus = 1 although its neighbours have theirs; the second policy suits that
// too, because sched_yield on a core of one's own returns at once.
func DefaultPolicy(ranksOnHost, cpus int) Policy {
	if ranksOnHost <= cpus {
		return Policy{Spins: 2000, GoschedEvery: 64}
	}
	return Policy{Spins: 100, Yields: 200, GoschedEvery: 25, YieldOS: true}
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
	switch {
	case b.step < p.Spins:
		b.step++
		Pause(1)
		if p.GoschedEvery > 0 && b.step%p.GoschedEvery == 0 {
			runtime.Gosched()
		}
	case b.step < p.Spins+p.Yields:
		b.step++
		if p.GoschedEvery > 0 {
			runtime.Gosched()
		}
		if p.YieldOS {
			yieldOS()
		}
	default:
		return true
	}
	return false
}
