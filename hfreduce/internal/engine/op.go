// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"unsafe"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// Mapping says how the bytes of an item lie in a user's buffer.
type Mapping uint8

// The mappings.
const (
	Nowhere Mapping = iota // this rank gives or takes nothing
	Whole                  // the buffer is what the flows cut: byte x of flow f is byte f.Offset+x
	Blocks                 // the buffer holds one block for each rank, in rank order
	Own                    // the buffer is this rank's block
)

// NotShared is the Op.SrcShare or DstShare of a buffer that the node's other ranks cannot reach.
const NotShared = -1

// Op is one collective on one rank.
type Op struct {
	Plan  schedule.Plan
	Spec  kernel.Spec // Spec.Divisor is applied at the tree root only
	Scale float64     // this rank's input is multiplied by it when Scaled
	// Scaled: the inputs of all ranks have scales, so each rank must give one.
	Scaled bool
	// Mean: partial sums are the means of what they cover, so that none is larger than what is averaged (mean.go).
	Mean bool
	Tag  uint32 // fingerprint: equal on all ranks if they make the same call

	Src, Dst     []byte // what this rank gives and takes, as In and Out say; may be the same memory
	In, Out      Mapping
	Bytes        int64 // of what this rank gives, wherever it lies
	Chunk        int64 // bytes of an item at most, equal on all ranks; 0: what the slots hold
	SrcShare     int64 // where Src lies in this rank's arena, or NotShared
	DstShare     int64 // the same for Dst
	SkipOwnBlock bool  // Out is Blocks and this rank's block is already in place

	// Filled and Drained: a device copies what this rank gives into the slots, and what it takes out of them, instead of Src
	// and Dst (device.go). In a small reduction they lie in the areas of Bounce, which the device fills and drains.
	Filled, Drained bool
	Bounce          uint32 // number of the small reduction among those that a device takes part in, 0 for none
}

// Outputs are written past the caches if their lines are not there: then the processor need not read them first. Measured
// (docs/performance.md) with a second-level cache of 1 MiB; smaller outputs may still be there from their last use, or until
// the next one.
const (
	streamBytes = 2 << 20 // from here on those that were not read as input
	// From here on also what is copied in place: the lines were read when they were staged, some chunks ago.
	streamInPlaceBytes = 8 << 20
)

// streams reports whether sums, and what is copied from slots, are written past the caches.
func (op *Op) streams() (sums, copies bool) {
	sums = len(op.Dst) >= streamBytes && (op.In == Own || !overlap(op.Dst, op.Src))
	return sums, sums || len(op.Dst) >= streamInPlaceBytes
}

// overlap reports whether two buffers have bytes in common.
func overlap(a, b []byte) bool {
	x, y := uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return len(a) > 0 && len(b) > 0 && x < y+uintptr(len(b)) && y < x+uintptr(len(a))
}

// piece is a run of an item's bytes that is contiguous in a user's buffer.
type piece struct {
	lo, hi int64 // in the item
	at     int64 // in the buffer
}

// pieces iterates over an item's pieces under a mapping.
type pieces struct {
	mapping Mapping
	rank    int
	block   int64
	whole   piece
	cursor  schedule.SegmentCursor
}

// piecesOf returns the pieces of an item of a plan under a rank's mapping.
func piecesOf(plan *schedule.Plan, layout *schedule.Layout, rank int, m Mapping, cut schedule.Item) pieces {
	p := pieces{mapping: m, rank: rank, block: plan.Block}
	switch m {
	case Whole:
		p.whole = piece{lo: 0, hi: cut.Bytes(), at: plan.Flow(cut.Flow).Offset + cut.Lo}
	case Blocks, Own:
		p.cursor = plan.Segments(layout, cut)
	}
	return p
}

func (e *Engine) pieces(m Mapping, it *item) pieces {
	return piecesOf(&e.op.Plan, e.cfg.Layout, e.cfg.Rank, m, it.cut)
}

func (p *pieces) next() (piece, bool) {
	if p.mapping == Whole {
		w := p.whole
		p.mapping = Nowhere
		return w, true
	}
	if p.mapping == Nowhere {
		return piece{}, false
	}
	for {
		s, ok := p.cursor.Next()
		if !ok {
			return piece{}, false
		}
		if p.mapping == Blocks {
			return piece{lo: s.Lo, hi: s.Hi, at: int64(s.Rank)*p.block + s.Offset}, true
		}
		if s.Rank == p.rank {
			return piece{lo: s.Lo, hi: s.Hi, at: s.Offset}, true
		}
	}
}

// contiguous returns the item's bytes as one run of buf, or nil when they are several or not this rank's.
func (e *Engine) contiguous(m Mapping, buf []byte, it *item) []byte {
	p := e.pieces(m, it)
	first, ok := p.next()
	if !ok || first.lo != 0 || first.hi != it.bytes {
		return nil
	}
	return buf[first.at : first.at+it.bytes : first.at+it.bytes]
}
