// SPDX-License-Identifier: Apache-2.0

package engine

import "github.com/hfreduce/hfreduce/hfreduce/internal/kernel"

// This file says where a final sum is written:
//
//   - the node's only rank: its buffer
//   - all ranks of the node want it in place in memory that they share: everybody's buffer, and nobody copies it
//   - else: the slot, from which the others copy it, and the own buffer in the same pass, if it is one run there

// spreadBytes is what is written for all ranks at a time: it stays in the second-level cache.
const spreadBytes = 64 << 10

// spreads reports whether the shards of an item that all ranks have staged go straight into the buffers of all of them.
// All ranks of the node find the same.
func (e *Engine) spreads(it *item) bool {
	if !it.direct || e.localSize == 1 {
		return false
	}
	for l := range e.localSize {
		if ready := e.mem.readyLine(it.slot, l); ready.out == notShare || ready.out != ready.share {
			return false // out of place, lines that only their owner has in its cache are better copied by it
		}
	}
	return true
}

// write reduces e.srcs, an own shard, into where its result belongs.
func (e *Engine) write(it *item, shard int, spec *kernel.Spec, scales []float64) (err error) {
	lo, hi := e.bounds(it, shard)
	to := *spec // with what depends on where it goes
	switch {
	case it.spread && e.localSize == 2:
		spec.Reduce(it.dst[lo:hi], e.wanted(it, 1-e.local, lo, hi), e.srcs, scales)
	case it.spread:
		e.spread(it, lo, hi, spec, scales)
	case it.direct && !it.private:
		to.StreamDst2 = e.streamSums
		to.Reduce(e.resultOf(it, shard, lo, hi), it.dst[lo:hi], e.srcs, scales)
	default:
		to.StreamDst = e.streamSums && it.flow.Pair && it.private // else it is read next, to be sent or copied
		err = e.add(&to, e.resultOf(it, shard, lo, hi), scales)
	}
	e.sumResult(it, shard, lo, hi)
	return err
}

// add reduces e.srcs into dst, with the team where a device takes this rank's data into the slots and out of them: then dst
// is none of the sources.
func (e *Engine) add(spec *kernel.Spec, dst []byte, scales []float64) error {
	if e.team != nil && e.op.Filled && e.op.Dst == nil {
		return e.team.add(spec, dst, e.srcs, scales)
	}
	spec.Reduce(dst, nil, e.srcs, scales)
	return nil
}

// spread writes bytes [lo,hi) of the item for all ranks of the node, in blocks, of which all but two copies are made while
// they are in the cache. In place is safe: an output is written after the block of its own input has been read.
func (e *Engine) spread(it *item, lo, hi int64, spec *kernel.Spec, scales []float64) {
	first := 0 // of the others
	if e.local == 0 {
		first = 1
	}
	for at := lo; at < hi; at += spreadBytes {
		end := min(at+spreadBytes, hi)
		e.part = e.part[:0]
		for _, src := range e.srcs {
			e.part = append(e.part, src[at-lo:end-lo])
		}
		mine := it.dst[at:end]
		spec.Reduce(mine, e.wanted(it, first, at, end), e.part, scales)
		for l := first + 1; l < e.localSize; l++ {
			if l != e.local {
				copy(e.wanted(it, l, at, end), mine)
			}
		}
	}
}

// wanted returns where a local rank wants bytes [lo,hi) of an item.
func (e *Engine) wanted(it *item, local int, lo, hi int64) []byte {
	at := int64(e.mem.readyLine(it.slot, local).out)
	return e.arenas[local][at+lo : at+hi]
}
