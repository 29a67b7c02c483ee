// SPDX-License-Identifier: Apache-2.0

package engine

import "github.com/hfreduce/hfreduce/hfreduce/internal/schedule"

// This file is pure: it says which bytes a device copies between its memory and the slots, for an item of a plan, before
// anything of the item has happened. So all copies of a collective can be given to a device when it is called.

// Run is one copy between a rank's buffer and its node's segment: Rows rows of Bytes bytes, which follow each other in the
// buffer and lie Stride bytes apart in the segment.
type Run struct {
	Segment, Buffer int64 // where the first row begins
	Bytes, Stride   int64
	Rows            int
}

// Total returns the bytes of all rows.
func (r *Run) Total() int64 { return r.Bytes * int64(r.Rows) }

// Transfers tells what a rank's device copies. It is a value that does not change: any goroutine may use it.
type Transfers struct {
	layout      *schedule.Layout
	rank        int
	node, local int
	geometry    Geometry
}

// Route is what of a collective decides where its bytes lie.
type Route struct {
	Plan         schedule.Plan
	Elem         int // bytes of an element
	In, Out      Mapping
	SkipOwnBlock bool
}

// Transfers returns what tells the copies of this rank's device.
func (e *Engine) Transfers() Transfers {
	return Transfers{layout: e.cfg.Layout, rank: e.cfg.Rank, node: e.node, local: e.local, geometry: e.mem.Geometry}
}

// Short reports whether a collective in which each rank gives so many bytes is a small reduction: the same on all ranks.
func (t *Transfers) Short(c schedule.Collective, bytes int64) bool {
	return t.geometry.short(len(t.layout.Nodes), c, bytes)
}

// Numbers returns how many sequence numbers a collective takes, whose items have at most chunk bytes.
func (t *Transfers) Numbers(p *schedule.Plan, bytes, chunk int64) uint32 {
	if !t.Short(p.Collective, bytes) {
		return uint32(p.ItemCount(chunk))
	}
	if t.geometry.exchange.Rounds() > 0 {
		return 1
	}
	return 0
}

// Fills appends the copies into the slot of an item: into this rank's input area, or where the item's result lies if this
// rank's data is that.
func (t *Transfers) Fills(runs []Run, r *Route, cut schedule.Item, seq uint32) []Run {
	flow := r.Plan.Flow(cut.Flow)
	slot := t.slot(seq)
	if !flow.Up && flow.Tree.Parent(t.node) >= 0 {
		return runs
	}
	for p := piecesOf(&r.Plan, t.layout, t.rank, r.In, cut); ; {
		piece, ok := p.next()
		switch {
		case !ok:
			return runs
		case piece.lo == piece.hi:
		case flow.Up:
			at := t.geometry.inputAt(slot, t.local) + piece.lo
			runs = append(runs, Run{Segment: at, Buffer: piece.at, Bytes: piece.hi - piece.lo, Rows: 1})
		default:
			runs = t.results(runs, r, cut, slot, piece)
		}
	}
}

// Drains appends the copies out of the slot of an item, when its result is there.
func (t *Transfers) Drains(runs []Run, r *Route, cut schedule.Item, seq uint32) []Run {
	flow := r.Plan.Flow(cut.Flow)
	if !flow.Down && flow.Tree.Parent(t.node) >= 0 {
		return runs
	}
	for p := piecesOf(&r.Plan, t.layout, t.rank, r.Out, cut); ; {
		piece, ok := p.next()
		if !ok {
			return runs
		}
		if !r.SkipOwnBlock || piece.at/r.Plan.Block != int64(t.rank) {
			runs = t.results(runs, r, cut, t.slot(seq), piece)
		}
	}
}

// results appends the copies between a piece of the buffer and the result areas of the item's shards. Shards of equal size
// are rows of one copy.
func (t *Transfers) results(runs []Run, r *Route, cut schedule.Item, slot int, p piece) []Run {
	first := len(runs) // of this piece
	shards := schedule.ShardCount(cut.Bytes(), t.geometry.shards)
	for s := range shards {
		lo, hi := schedule.Shard(cut.Bytes(), r.Elem, shards, s)
		a, b := max(lo, p.lo), min(hi, p.hi)
		if a >= b {
			continue
		}
		run := Run{Segment: t.geometry.resultAt(slot, s) + a - lo, Buffer: p.at + a - p.lo, Bytes: b - a, Stride: t.geometry.shardMax, Rows: 1}
		if n := len(runs); n > first {
			last := &runs[n-1]
			if last.Bytes == run.Bytes && last.Segment+int64(last.Rows)*last.Stride == run.Segment {
				last.Rows++
				continue
			}
		}
		runs = append(runs, run)
	}
	return runs
}

// slot returns the slot of an item.
func (t *Transfers) slot(seq uint32) int { return int(seq % uint32(t.geometry.slots)) }

// FlagAt returns where a word between this rank and its device lies in the segment.
func (t *Transfers) FlagAt(f DeviceFlag) int64 {
	at := t.geometry.device + int64(t.local)*2*line
	if f >= Open {
		return at + line + int64(f-Open)*4
	}
	return at + int64(f)*4
}

// BounceAt returns where the small reduction of a number finds this rank's input, and leaves its result.
func (t *Transfers) BounceAt(bounce uint32) (in, out int64) {
	at := t.geometry.bounces + (int64(t.local)*bounceAreas+int64(bounce%bounceAreas))*2*t.geometry.flatStride()
	return at, at + t.geometry.flatStride()
}
