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
// shards are divided among helpers. The sum of each element stays what it was: only who adds which range changes.

// minPart is the least that a helper is woken for: adding it takes several times as long as waking a goroutine.
const minPart = 128 << 10

// partUnit is what parts are multiples of: whole pages of the slots.
const partUnit = 4096

// part is a range of one addition.
type part struct {
	spec   kernel.Spec
	dst    []byte
	srcs   [][]byte
	scales []float64
}

func (p *part) add() { p.spec.Reduce(p.dst, nil, p.srcs, p.scales) }

// set makes the part the range [lo,hi) of an addition.
func (p *part) set(spec *kernel.Spec, dst []byte, srcs [][]byte, scales []float64, lo, hi int) {
	p.spec, p.dst, p.scales, p.srcs = *spec, dst[lo:hi], scales, p.srcs[:0]
	for _, src := range srcs {
		p.srcs = append(p.srcs, src[lo:hi])
	}
}

// team are goroutines that help one rank to add. They begin with the first task.
type team struct {
	parts []part // the rank's own first, then one for each helper
	wake  []chan struct{}
	left  atomic.Int32 // helpers that have not ended their part
	alive sync.WaitGroup
}

// newTeam returns a team for additions of at most srcs sources.
func newTeam(helpers, srcs int) *team {
	t := &team{parts: make([]part, helpers+1)}
	for i := range t.parts {
		t.parts[i].srcs = make([][]byte, 0, srcs)
	}
	return t
}

// add adds srcs into dst, which is none of them, with as many helpers as the size is worth.
func (t *team) add(spec *kernel.Spec, dst []byte, srcs [][]byte, scales []float64) {
	n := min(len(t.parts), len(dst)/minPart)
	if n < 2 {
		spec.Reduce(dst, nil, srcs, scales)
		return
	}
	if t.wake == nil {
		t.begin()
	}
	size := int(roundUp(int64((len(dst)+n-1)/n), partUnit))
	t.left.Store(int32(n - 1))
	for i := range n {
		t.parts[i].set(spec, dst, srcs, scales, min(i*size, len(dst)), min((i+1)*size, len(dst)))
		if i > 0 {
			t.wake[i-1] <- struct{}{}
		}
	}
	t.parts[0].add()
	for looks := 1; t.left.Load() > 0; looks++ {
		if wait.Pause(1); looks%64 == 0 {
			runtime.Gosched()
		}
	}
}

// begin starts the helpers.
func (t *team) begin() {
	for i := range t.parts[1:] {
		wake := make(chan struct{}, 1)
		t.wake = append(t.wake, wake)
		t.alive.Go(func() {
			for range wake {
				t.parts[i+1].add()
				t.left.Add(-1)
			}
		})
	}
}

// end ends the helpers. Nothing must be running.
func (t *team) end() {
	for _, wake := range t.wake {
		close(wake)
	}
	t.alive.Wait()
	t.wake = nil
}
