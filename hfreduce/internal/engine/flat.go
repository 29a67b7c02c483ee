// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"math"
	"sync/atomic"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// A small reduction to all ranks of a single node takes no pipeline: every rank puts its input and a flag where all others
// read them, and adds all inputs itself, in the pipeline's order. That is one exchange of cache lines where the pipeline
// takes three, for the price of adding everything once on every rank.
//
// Two sets of areas take turns. A rank that begins a call has seen the flags of all ranks for the one before, so all have
// left the one before that, whose areas it writes.

// flatCall is the state of the small reduction at hand.
type flatCall struct {
	seq    uint32 // of the latest one; 0 before the first
	open   bool   // it has not ended
	waited int    // the first local rank whose input has not been seen
}

// flat reports whether op is a small reduction: the same on all ranks, unless they make different calls.
func (e *Engine) flat(op *Op) bool {
	c := op.Plan.Collective
	return len(e.cfg.Layout.Nodes) == 1 && (c == schedule.AllReduce || c == schedule.Barrier) && int64(len(op.Src)) <= e.mem.flatMax
}

// beginFlat puts the input where all ranks see it.
func (e *Engine) beginFlat(op *Op) {
	f := &e.small
	f.seq++
	f.open, f.waited = true, 0
	mine := e.mem.flatLine(f.seq, e.local)
	if n := len(op.Src); n <= len(mine.inline) {
		copy(mine.inline[:], op.Src)
	} else {
		e.counter.StagedBytes.Add(uint64(copy(e.mem.flatArea(f.seq, e.local), op.Src)))
	}
	mine.tag, mine.scale = op.Tag, math.Float64bits(op.Scale)
	atomic.StoreUint32(&mine.seq, f.seq)
	e.ringNode()
}

// advanceFlat ends the reduction if all inputs are there.
func (e *Engine) advanceFlat() (moved bool, err error) {
	f := &e.small
	for ; f.waited < e.localSize; f.waited++ {
		l := e.mem.flatLine(f.seq, f.waited)
		if f.waited == e.local {
			continue
		}
		if atomic.LoadUint32(&l.seq) != f.seq {
			return moved, nil
		}
		if l.tag != e.op.Tag {
			return moved, &MismatchError{Rank: e.cfg.Layout.Nodes[e.node][f.waited]}
		}
		moved = true
	}
	f.open = false
	e.addFlat()
	return true, nil
}

// addFlat adds the inputs of all ranks.
func (e *Engine) addFlat() {
	op, n := e.op, len(e.op.Src)
	if n == 0 {
		return
	}
	e.srcs, e.scales = e.srcs[:0], e.scales[:0]
	for l := range e.localSize {
		line := e.mem.flatLine(e.small.seq, l)
		switch {
		case l == e.local:
			e.srcs = append(e.srcs, op.Src)
		case n <= len(line.inline):
			e.srcs = append(e.srcs, line.inline[:n])
		default:
			e.srcs = append(e.srcs, e.mem.flatArea(e.small.seq, l)[:n])
		}
		e.scales = append(e.scales, math.Float64frombits(line.scale))
	}
	scales := e.scales
	if !op.Scaled {
		scales = nil
	}
	op.Spec.Reduce(op.Dst, nil, e.srcs, scales)
}

// stalledFlat adds the ranks whose inputs are missing.
func (e *Engine) stalledFlat(add func(rank int)) {
	for l, rank := range e.cfg.Layout.Nodes[e.node] {
		if atomic.LoadUint32(&e.mem.flatLine(e.small.seq, l).seq) != e.small.seq {
			add(rank)
		}
	}
}
