// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// Where GPUs copy, one processor for each rank adds more slowly than they deliver: it gets some 12 GB/s out of memory. So large
// shards are divided among helpers, in blocks that each takes when it is done with the one before. The sum of each element
// stays what it was: only who adds which range changes.

const (
	// minPart is the least that a helper is woken for: adding it takes several times as long as waking a goroutine.
	minPart = 128 << 10
	// blockBytes is about how much memory a block touches, some 80 us of work: after each the rank looks after its device.
	blockBytes = 1 << 20
	// blockUnit is what blocks are multiples of: whole pages of the slots.
	blockUnit = 4096
)

// team adds for one rank, with goroutines that help and begin with the first task that is large enough. Between blocks the
// rank tends to what else it has to do.
type team struct {
	tend    func() error
	part    part // the rank's own
	helpers []*helper
	begun   bool
	alive   sync.WaitGroup
	bytes   int64 // blockBytes, but for tests, as unit
	unit    int64

	spec   kernel.Spec // of the addition at hand, as the rest
	dst    []byte
	srcs   [][]byte
	scales []float64
	block  int
	next   atomic.Int64 // where in dst the first block begins that nobody has taken
}

// helper is a goroutine of a team. A call may reach it late, when the addition has ended: then it is taken back.
type helper struct {
	part  part
	wake  chan struct{}
	state atomic.Uint32
}

// The states of a helper.
const (
	idle uint32 = iota
	called
	adding
)

// part is the block that one of them adds.
type part struct{ srcs [][]byte }

// newTeam returns a team for additions of at most srcs sources.
func newTeam(helpers, srcs int, tend func() error) *team {
	t := &team{tend: tend, part: part{make([][]byte, 0, srcs)}, bytes: blockBytes, unit: blockUnit}
	for range helpers {
		t.helpers = append(t.helpers, &helper{part: part{make([][]byte, 0, srcs)}, wake: make(chan struct{}, 1)})
	}
	return t
}

// add adds srcs into dst, which is none of them, with as many helpers as the size is worth. An error is tend's: then the sum
// need not be complete.
func (t *team) add(spec *kernel.Spec, dst []byte, srcs [][]byte, scales []float64) error {
	t.spec, t.dst, t.srcs, t.scales = *spec, dst, srcs, scales
	t.block = int(max(t.unit, roundUp(t.bytes/int64(len(srcs)+1), t.unit)))
	t.next.Store(0)
	helpers := t.helpers[:max(0, min(len(t.helpers), len(dst)/minPart-1))]
	t.call(helpers)
	err := t.work()
	for _, h := range helpers {
		h.await()
	}
	return err
}

// work adds what the helpers leave.
func (t *team) work() error {
	for t.addBlock(&t.part) {
		if t.next.Load() >= int64(len(t.dst)) {
			return nil
		}
		if err := t.tend(); err != nil {
			return err
		}
	}
	return nil
}

// addBlock takes the next block and adds it, if there is one.
func (t *team) addBlock(p *part) bool {
	lo := int(t.next.Add(int64(t.block))) - t.block
	if lo >= len(t.dst) {
		return false
	}
	hi := min(lo+t.block, len(t.dst))
	p.srcs = p.srcs[:0]
	for _, src := range t.srcs {
		p.srcs = append(p.srcs, src[lo:hi])
	}
	t.spec.Reduce(t.dst[lo:hi], nil, p.srcs, t.scales)
	return true
}

// call wakes helpers.
func (t *team) call(helpers []*helper) {
	if len(helpers) > 0 && !t.begun {
		t.begin()
	}
	for _, h := range helpers {
		h.state.Store(called)
		select {
		case h.wake <- struct{}{}:
		default: // an earlier call, that was taken back, has not reached it yet
		}
	}
}

// await waits until a helper that was called adds no more.
func (h *helper) await() {
	if h.state.CompareAndSwap(called, idle) {
		return
	}
	for looks := 1; h.state.Load() != idle; looks++ {
		if wait.Pause(1); looks%64 == 0 {
			runtime.Gosched()
		}
	}
}

// begin starts the helpers.
func (t *team) begin() {
	t.begun = true
	for _, h := range t.helpers {
		t.alive.Go(func() {
			for range h.wake {
				if !h.state.CompareAndSwap(called, adding) {
					continue
				}
				for t.addBlock(&h.part) {
				}
				h.state.Store(idle)
			}
		})
	}
}

// end ends the helpers. Nothing must be running, and nothing is added afterwards.
func (t *team) end() {
	for _, h := range t.helpers {
		close(h.wake)
	}
	t.alive.Wait()
}
