// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
)

// maxComplaints is how many faults a rank describes; the counts go on.
const maxComplaints = 10

// windows are the memory of a call that is verified.
type windows struct {
	inPlace  bool
	whole    window // in place: the one buffer; else the destination
	dst, src window
}

// windows returns the memory of the call of iteration 0.
func (r *rank) windows(t test, s shape, inPlace bool) windows {
	elem := int64(t.elem())
	skip := int64(r.cfg.Unalign) * elem
	send, recv := s.send*elem, s.recv*elem
	if !inPlace {
		dst := r.recv.window(skip, recv)
		return windows{whole: dst, dst: dst, src: r.send.window(skip, send)}
	}
	return windows{
		inPlace: true,
		whole:   r.recv.window(skip, max(send, recv)),
		dst:     r.recv.window(skip+s.recvAt*elem*int64(r.number), recv),
		src:     r.recv.window(skip+s.sendAt*elem*int64(r.number), send),
	}
}

// fill writes the input of this rank and wipes what the call is to write, guard bytes around it included.
func (r *rank) fill(w windows, t test, seed int) error {
	if t.collective == Barrier {
		return nil
	}
	w.whole.guard()
	clear(w.whole.payload())
	if !w.inPlace {
		w.src.guard()
	}
	if t.collective != Broadcast || !w.inPlace || r.number == t.root {
		r.inputs.fill(w.src.payload(), 0, seed)
	}
	return w.each(window.store)
}

// fillAll is fill on all ranks: it returns when all are through with it. Where ranks of a process share a GPU, copies of one could
// otherwise have to wait behind a call of another, which waits for all of them (docs/gpu.md).
func (r *rank) fillAll(ctx context.Context, w windows, t test, seed int) error {
	if err := r.fill(w, t, seed); err != nil {
		return err
	}
	return r.control.barrier(ctx)
}

// each calls f with the memory of the call, each part once.
func (w windows) each(f func(window) error) error {
	err := f(w.whole)
	if err == nil && !w.inPlace {
		err = f(w.src)
	}
	return err
}

// check verifies a measurement Check times, or until something is wrong, and returns the number of wrong elements over
// all ranks.
func (r *rank) check(ctx context.Context, t test, s shape, inPlace bool) (int64, error) {
	for range r.cfg.Check {
		r.seed++
		w := r.windows(t, s, inPlace)
		if err := r.fillAll(ctx, w, t, firstSeed+r.seed); err != nil {
			return 0, err
		}
		calls := r.walk(t, s, inPlace)
		if err := calls.iteration(0).run(ctx); err != nil {
			return 0, err
		}
		if err := w.each(window.load); err != nil {
			return 0, err
		}
		r.cfg.hooks.corrupt(t.collective, r.number, inPlace, w.whole)
		wrong, faults := r.verify(w, t, s, firstSeed+r.seed)
		counts := []float64{float64(wrong), float64(min(1, wrong+faults))}
		if err := r.control.sums(ctx, counts); err != nil {
			return 0, err
		}
		r.summary.Wrong += int64(counts[0])
		r.summary.OutOfBounds += int(counts[1])
		if counts[0] > 0 {
			return int64(counts[0]), nil
		}
	}
	return 0, nil
}

// verify counts this rank's wrong elements and the faults outside of the result: changed guard bytes, a changed source.
func (r *rank) verify(w windows, t test, s shape, seed int) (wrong, faults int64) {
	if t.collective == Barrier {
		return 0, 0
	}
	if wrong = r.wrong(w, t, s, seed); wrong > 0 {
		r.complain(w, t, s, "%d wrong elements", wrong)
	}
	if w.whole.damaged() {
		faults++
		r.complain(w, t, s, "bytes outside of the destination were written")
	}
	if !w.inPlace && (w.src.damaged() || r.inputs.mismatches(w.src.payload(), 0, seed) > 0) {
		faults++
		r.complain(w, t, s, "the source was changed")
	}
	if w.inPlace && t.collective == ReduceScatter && r.othersChanged(w, s, t, seed) {
		faults++
		r.complain(w, t, s, "other ranks' blocks were changed")
	}
	return wrong, faults
}

// wrong counts the elements of the destination that are not what they must be.
func (r *rank) wrong(w windows, t test, s shape, seed int) int64 {
	dst := w.dst.payload()
	switch {
	case t.collective == ReduceScatter:
		return r.results.mismatches(dst, int64(r.number)*s.count, seed)
	case t.collective == AllGather:
		return r.wrongBlocks(dst, int(s.count)*t.elem(), seed)
	case t.collective == Broadcast:
		root := r.pattern.inputs(t.root)
		return root.mismatches(dst, 0, seed)
	case t.collective == AllReduce || r.number == t.root:
		return r.results.mismatches(dst, 0, seed)
	case w.inPlace: // a Reduce on another rank than the root leaves the buffer alone
		return r.inputs.mismatches(dst, 0, seed)
	}
	zeros := period{data: make([]byte, t.elem()), size: t.elem(), length: 1}
	return zeros.mismatches(dst, 0, 0)
}

// wrongBlocks counts the wrong elements of the blocks of all ranks, one after the other.
func (r *rank) wrongBlocks(dst []byte, block, seed int) (wrong int64) {
	for rank := 0; block > 0 && rank < r.ranks; rank++ {
		inputs := r.pattern.inputs(rank)
		wrong += inputs.mismatches(dst[rank*block:][:block], 0, seed)
	}
	return wrong
}

// othersChanged reports whether a ReduceScatter in place changed blocks that are not this rank's.
func (r *rank) othersChanged(w windows, s shape, t test, seed int) bool {
	all, block := w.src.payload(), int(s.count)*t.elem()
	before, behind := all[:r.number*block], all[(r.number+1)*block:]
	return r.inputs.mismatches(before, 0, seed)+r.inputs.mismatches(behind, int64(r.number+1)*s.count, seed) > 0
}

// complain describes a fault.
func (r *rank) complain(w windows, t test, s shape, format string, args ...any) {
	if r.complaints++; r.complaints > maxComplaints {
		return
	}
	place := "out of place"
	if w.inPlace {
		place = "in place"
	}
	fmt.Fprintf(r.out.Diagnostics, "hfreduce bench: rank %d: %s: %s %s %s, %d elements, root %d, %s\n",
		r.number, fmt.Sprintf(format, args...), t.collective, t.typeName(), t.op, s.count, t.root, place)
}
