// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"math"
	"sync/atomic"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// This file moves data between the user's buffers and the node's segment, and adds.

// stage puts this rank's input of an item where the node's ranks read it and tells them.
func (e *Engine) stage(it *item) {
	op := e.op
	e.begins(StageInput)
	ready := e.mem.readyLine(it.slot, e.local)
	ready.share, ready.out = notShare, notShare
	if it.filling {
		return // announced when the device has done it
	}
	if it.direct && it.forward && op.DstShare != NotShared {
		ready.out = uint64(op.DstShare + it.flow.Offset + it.lo)
	}
	switch {
	case op.In == Nowhere || it.bytes == 0 || op.Filled:
	case it.flow.Up && it.src != nil && op.SrcShare != NotShared:
		ready.share = uint64(op.SrcShare + it.flow.Offset + it.lo)
	case it.flow.Up:
		e.stageInput(it)
	case it.parent < 0:
		e.stageResult(it)
	}
	e.announce(it)
}

// announce tells the node's ranks that this rank's input of an item is where the ready line says.
func (e *Engine) announce(it *item) {
	ready := e.mem.readyLine(it.slot, e.local)
	ready.tag = e.op.Tag
	ready.scale = math.Float64bits(e.op.Scale)
	atomic.StoreUint32(&ready.seq, it.seq)
	e.ringNode()
}

// stageInput copies the input into the slot, except for own shards, which are read from the user's buffer.
func (e *Engine) stageInput(it *item) {
	area := e.mem.input(it.slot, e.local)
	if it.src == nil {
		e.stagePieces(it, area)
		return
	}
	for s := range it.shards {
		if s%e.localSize != e.local {
			lo, hi := e.bounds(it, s)
			e.counter.StagedBytes.Add(uint64(copy(area[lo:hi], it.src[lo:hi])))
			if e.mem.checksums {
				e.mem.inputSums(it.slot, e.local)[s] = sumOf(it.src[lo:hi])
			}
		}
	}
}

// stagePieces is stageInput for an input that is not in one run.
func (e *Engine) stagePieces(it *item, area []byte) {
	if e.mem.checksums {
		clear(e.mem.inputSums(it.slot, e.local))
	}
	for p := e.pieces(e.op.In, it); ; {
		run, ok := p.next()
		if !ok {
			return
		}
		src := e.op.Src[run.at : run.at+run.hi-run.lo]
		e.counter.StagedBytes.Add(uint64(copy(area[run.lo:run.hi], src)))
		for s := 0; e.mem.checksums && s < it.shards; s++ {
			lo, hi := e.bounds(it, s)
			if a, b := max(lo, run.lo), min(hi, run.hi); a < b {
				e.foldInput(it, s, src[a-run.lo:b-run.lo])
			}
		}
	}
}

// stageResult copies this rank's data, which is the result already, into the slot's result areas.
func (e *Engine) stageResult(it *item) {
	if e.mem.checksums {
		clear(e.mem.inputSums(it.slot, e.local))
	}
	for p := e.pieces(e.op.In, it); ; {
		run, ok := p.next()
		if !ok {
			return
		}
		for s := range it.shards {
			lo, hi := e.bounds(it, s)
			if a, b := max(lo, run.lo), min(hi, run.hi); a < b {
				src := e.op.Src[run.at+a-run.lo : run.at+b-run.lo]
				copy(e.mem.result(it.slot, s)[a-lo:b-lo], src)
				if e.mem.checksums {
					e.foldInput(it, s, src)
				}
			}
		}
	}
}

// staged reports whether all ranks of the node have staged the item, and checks that they mean the same collective.
func (e *Engine) staged(it *item) (bool, error) {
	for l := range e.localSize {
		ready := e.mem.readyLine(it.slot, l)
		if atomic.LoadUint32(&ready.seq) != it.seq {
			return false, nil
		}
		if ready.tag != e.op.Tag {
			return false, &MismatchError{Rank: e.cfg.Layout.Nodes[e.node][l]}
		}
	}
	return true, nil
}

// reduce adds the node's inputs and the children's partial sums of one own shard, in that order, in one pass.
func (e *Engine) reduce(it *item, shard int) error {
	lo, hi := e.bounds(it, shard)
	switch {
	case lo == hi:
		return nil
	case it.bare:
		e.sumBare(it, shard, lo, hi)
		return nil
	}
	if err := e.gatherSources(it, shard, lo, hi); err != nil {
		return err
	}
	spec := e.op.Spec
	if it.parent >= 0 {
		spec.Divisor = 0
	}
	scales := e.scales
	if !e.op.Scaled && !e.op.Mean {
		scales = nil
	}
	if it.parent < 0 {
		return e.write(it, shard, &spec, scales)
	}
	partial := e.partialOf(it, shard, lo, hi)
	err := e.add(&spec, partial, scales)
	if e.mem.checksums {
		*e.sum(it, shard) = sumOf(partial)
	}
	return err
}

// gatherSources lists what is added in e.srcs and e.scales.
func (e *Engine) gatherSources(it *item, shard int, lo, hi int64) error {
	e.srcs, e.scales = e.srcs[:0], e.scales[:0]
	w := weights{children: [2]float64{1, 1}}
	if e.op.Mean {
		w = e.weightsIn(&it.flow)
	}
	for l := range e.localSize {
		input := e.inputOf(it, l, lo, hi)
		if err := e.checkInput(it, shard, l, input); err != nil {
			return err
		}
		scale := math.Float64frombits(e.mem.readyLine(it.slot, l).scale)
		if e.op.Mean {
			scale = w.own
		}
		e.srcs, e.scales = append(e.srcs, input), append(e.scales, scale)
	}
	for c := range Neighbour(it.children) {
		if it.flow.Pair {
			break // comes later
		}
		partial := e.mem.partial(it.slot, shard, c)[:hi-lo]
		if err := e.checkPartial(it, shard, c, partial); err != nil {
			return err
		}
		e.srcs = append(e.srcs, partial)
		e.scales = append(e.scales, w.children[c])
	}
	return nil
}

// combine adds the partial sums of a pair of nodes, node 0's first.
func (e *Engine) combine(it *item, shard int) error {
	lo, hi := e.bounds(it, shard)
	if lo == hi {
		return nil
	}
	mine, theirs := e.partialOf(it, shard, lo, hi), e.mem.partial(it.slot, shard, Child0)[:hi-lo]
	if err := e.checkPartial(it, shard, Child0, theirs); err != nil {
		return err
	}
	if err := e.checkOwn(it, shard, mine); err != nil {
		return err
	}
	if e.srcs = append(e.srcs[:0], mine, theirs); e.node > 0 {
		e.srcs[0], e.srcs[1] = theirs, mine
	}
	var scales []float64
	if nodes := e.cfg.Layout.Nodes; e.op.Mean {
		scales = e.weigh(len(nodes[0]), len(nodes[1]))
	}
	return e.write(it, shard, &e.op.Spec, scales)
}

// partialOf returns where the own shard's partial sum is written, if it is, and sent from.
func (e *Engine) partialOf(it *item, shard int, lo, hi int64) []byte {
	if it.bare {
		return it.src[lo:hi]
	}
	return e.mem.result(it.slot, shard)[:hi-lo]
}

// inputOf returns bytes [lo,hi) of a local rank's input.
func (e *Engine) inputOf(it *item, local int, lo, hi int64) []byte {
	if local == e.local && it.src != nil {
		return it.src[lo:hi]
	}
	if share := e.mem.readyLine(it.slot, local).share; share != notShare {
		at := int64(share)
		return e.arenas[local][at+lo : at+hi]
	}
	return e.mem.input(it.slot, local)[lo:hi]
}

// resultOf returns where the own shard's result is written, or lands, and is sent from.
func (e *Engine) resultOf(it *item, shard int, lo, hi int64) []byte {
	if it.private || it.spread || it.away[shard/e.localSize] {
		return it.dst[lo:hi]
	}
	return e.mem.result(it.slot, shard)[:hi-lo]
}

// publish tells the node's ranks that a shard's result lies in the slot.
func (e *Engine) publish(it *item, shard int) {
	reduced := e.mem.reducedLine(it.slot, shard)
	reduced.tag = e.op.Tag
	if e.mem.checksums {
		reduced.sum = *e.sum(it, shard)
	}
	atomic.StoreUint32(&reduced.seq, it.seq)
	e.ringNode()
}

// copyOut copies an item's result to the user's buffer once every shard is there, and reports whether it did.
func (e *Engine) copyOut(it *item) (bool, error) {
	if it.bare && it.left > 0 {
		return false, nil // the same buffer may still be being sent
	}
	if there, err := e.arrived(it); !there {
		return false, err
	}
	e.begins(StageOutput)
	if e.spreads(it) {
		return true, nil
	}
	if err := e.checkResults(it); err != nil {
		return false, err
	}
	for p := e.pieces(e.op.Out, it); ; {
		run, ok := p.next()
		if !ok {
			return true, nil
		}
		if e.skips(run) {
			continue
		}
		for s := range it.shards {
			if e.placed(it, s) {
				continue
			}
			lo, hi := e.bounds(it, s)
			if a, b := max(lo, run.lo), min(hi, run.hi); a < b {
				e.copyResult(e.op.Dst[run.at+a-run.lo:run.at+b-run.lo], e.mem.result(it.slot, s)[a-lo:b-lo])
			}
		}
	}
}

// skips reports whether a piece of the output is in place from the beginning.
func (e *Engine) skips(p piece) bool {
	return e.op.SkipOwnBlock && p.at/e.op.Plan.Block == int64(e.cfg.Rank)
}

// placed reports whether a shard's result was written to the user's buffer already.
func (e *Engine) placed(it *item, shard int) bool {
	return shard%e.localSize == e.local && (it.direct || it.away[shard/e.localSize])
}

// arrived reports whether every shard's result is there, and checks that they are of the same collective: a rank whose input
// nobody reads would otherwise take another one's result for that of its own. Where inputs are not added, and so have not been
// checked, a rank that takes itself for the root would write its data over the result: all ranks must have said what they do.
func (e *Engine) arrived(it *item) (bool, error) {
	for s := range it.shards {
		reduced := e.mem.reducedLine(it.slot, s)
		if atomic.LoadUint32(&reduced.seq) != it.seq {
			return false, nil
		}
		if reduced.tag != e.op.Tag {
			return false, &MismatchError{Rank: e.cfg.Layout.Nodes[e.node][s%e.localSize]}
		}
	}
	if it.flow.Up {
		return true, nil
	}
	return e.staged(it)
}

// copyResult copies a part of a result to the user's buffer.
func (e *Engine) copyResult(dst, src []byte) {
	if e.streamCopies {
		kernel.Copy(dst, src)
		return
	}
	copy(dst, src)
}
