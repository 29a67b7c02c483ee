// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"math"
)

// Item is one chunk of one flow: the unit that occupies a slot of the ring.
type Item struct {
	Flow   int
	Lo, Hi int64 // bytes within the flow, counted from its start
}

// Bytes returns the item's size.
func (it Item) Bytes() int64 { return it.Hi - it.Lo }

// String returns the item as error messages show it.
func (it Item) String() string {
	return fmt.Sprintf("flow %d bytes [%d,%d)", it.Flow, it.Lo, it.Hi)
}

// Cursor walks the items of a plan in the order that all ranks share. It is a
// value: a copy walks on independently.
type Cursor struct {
	plan  Plan
	chunk int64
	lo    int64 // where this round's chunk starts in every flow
	end   int64 // size of the largest flow
	flow  int   // next flow of the round
}

// Items returns a cursor over the plan's items. chunk is the largest size of an
// item in bytes; it is rounded down to a multiple of 64 (of 64 elements, for
// element sizes that do not divide 64), at least to one such unit.
//
// Round k gives chunk k of each flow that still has one, flows in index order:
// so all flows progress together and both trees, or all nodes' roots, are busy.
// A collective of zero bytes has no items; Barrier has one, of zero bytes.
func (p *Plan) Items(chunk int64) Cursor {
	c := Cursor{plan: *p, chunk: p.roundChunk(chunk), end: p.maxFlowBytes()}
	if p.Collective == Barrier {
		c.end = 1 // one round, in which the flow of zero bytes has its item
	}
	return c
}

// Next returns the next item, or false after the last.
func (c *Cursor) Next() (Item, bool) {
	for c.lo < c.end {
		i, lo := c.flow, c.lo
		c.advance()
		bytes := c.plan.flowBytes(i)
		if c.plan.Collective == Barrier {
			return Item{}, true
		}
		if lo < bytes {
			return Item{Flow: i, Lo: lo, Hi: lo + min(c.chunk, bytes-lo)}, true
		}
	}
	return Item{}, false
}

// advance goes to the next flow, or to the next round after the last.
func (c *Cursor) advance() {
	if c.flow++; c.flow < c.plan.flows {
		return
	}
	c.flow = 0
	if c.chunk >= c.end-c.lo { // instead of lo+chunk >= end, which could overflow
		c.lo = math.MaxInt64
		return
	}
	c.lo += c.chunk
}

// ItemCount returns how many items [Plan.Items] gives for the chunk size.
func (p *Plan) ItemCount(chunk int64) int64 {
	if p.Collective == Barrier {
		return 1
	}
	chunk = p.roundChunk(chunk)
	var count int64
	for i := range p.flows {
		if bytes := p.flowBytes(i); bytes > 0 {
			count += (bytes-1)/chunk + 1
		}
	}
	return count
}

// roundChunk rounds a chunk size down to whole units.
func (p *Plan) roundChunk(chunk int64) int64 {
	unit := cutUnit(p.elem)
	return max(chunk/unit*unit, unit)
}

// Segment is a part of an item that is contiguous in the user's buffers.
type Segment struct {
	// Rank is the rank whose block this is (ReduceScatter, AllGather), else -1.
	Rank int
	// Offset is where the segment starts: in Rank's block, which itself starts at
	// Rank*Plan.Block of the large buffer (sent by ReduceScatter, received by
	// AllGather), or in the buffer if Rank is -1.
	Offset int64
	// Lo and Hi are the segment's place in the item, counted from the item's start.
	Lo, Hi int64
}

// SegmentCursor walks the segments of an item.
type SegmentCursor struct {
	ranks []int // of the flow's node, from the next segment's on; nil without blocks
	block int64 // bytes of a block; all bytes where there are no blocks
	at    int64 // offset of the next segment in its block or in the buffer
	lo    int64 // of the next segment in the item
	size  int64 // of the item
}

// Segments returns a cursor over the segments of an item, in the order of their
// bytes. l is the plan's layout. Any part of an item may be asked for by an Item
// of that range, for instance one shard. An empty item has no segments.
func (p *Plan) Segments(l *Layout, it Item) SegmentCursor {
	c := SegmentCursor{size: it.Bytes()}
	if !p.Collective.blocked() {
		c.block = math.MaxInt64
		c.at = it.Lo
		if it.Flow == 1 {
			c.at += p.split
		}
		return c
	}
	if c.size > 0 {
		c.ranks = l.Nodes[it.Flow][it.Lo/p.Block:]
		c.block, c.at = p.Block, it.Lo%p.Block
	}
	return c
}

// Next returns the next segment, or false after the last.
func (c *SegmentCursor) Next() (Segment, bool) {
	if c.lo >= c.size {
		return Segment{}, false
	}
	s := Segment{Rank: -1, Offset: c.at, Lo: c.lo}
	s.Hi = s.Lo + min(c.block-c.at, c.size-c.lo)
	if c.ranks != nil {
		s.Rank, c.ranks = c.ranks[0], c.ranks[1:]
	}
	c.at, c.lo = 0, s.Hi
	return s, true
}
