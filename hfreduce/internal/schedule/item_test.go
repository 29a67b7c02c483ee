// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// roundRobin is what Items says, written down naively.
func roundRobin(p *Plan, chunk int64) []Item {
	unit := cutUnit(p.elem)
	chunk = max(chunk-chunk%unit, unit)
	var items []Item
	for round := int64(0); ; round++ {
		before := len(items)
		for i := range p.Flows() {
			bytes := p.Flow(i).Bytes
			if lo := round * chunk; lo < bytes {
				items = append(items, Item{Flow: i, Lo: lo, Hi: min(lo+chunk, bytes)})
			}
		}
		if len(items) == before {
			return items
		}
	}
}

func TestItemsGoRoundTheFlows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t, 7, 4)
		p := drawPlan(t, l, 5000)
		chunk := rapid.Int64Range(0, 20000).Draw(t, "chunk")
		want := roundRobin(&p, chunk)
		if p.Collective == Barrier {
			want = []Item{{}}
		}
		got := allItems(&p, chunk)
		if !slices.Equal(got, want) {
			t.Fatalf("items %v, want %v", got, want)
		}
		if p.ItemCount(chunk) != int64(len(want)) {
			t.Fatalf("ItemCount %d, want %d", p.ItemCount(chunk), len(want))
		}
	})
}

func TestItemsAreCutBetweenElements(t *testing.T) {
	l := even(t, 2, 1)
	for _, elem := range []int{1, 2, 4, 8, 3, 100} {
		p := NewPlan(l, AllReduce, int64(elem)*10007, elem, 0)
		for _, it := range allItems(&p, 5000) {
			if it.Lo%int64(elem) != 0 || it.Hi%int64(elem) != 0 {
				t.Errorf("element size %d: %v cuts an element", elem, it)
			}
		}
	}
}

func TestItemsOfExtremeSizes(t *testing.T) {
	l := even(t, 3, 2)
	tests := []struct {
		name         string
		collective   Collective
		bytes, chunk int64
		want         int64
	}{
		{"nothing", AllReduce, 0, 1024, 0},
		{"empty blocks", AllGather, 0, 1024, 0},
		{"barrier", Barrier, 0, 1024, 1},
		{"one byte", AllReduce, 1, 1024, 1},
		{"chunk of zero is one unit", AllReduce, 129, 0, 3},
		{"negative chunk is one unit", Broadcast, 128, -5, 2},
		{"largest chunk", AllReduce, 1 << 50, math.MaxInt64, 2},
		{"largest chunk, blocks", ReduceScatter, 1 << 50, math.MaxInt64, 3},
		{"beyond 4 GiB", AllReduce, 6 << 30, 1 << 30, 6},
		{"largest buffer", AllReduce, math.MaxInt64 - 7, 1 << 61, 4},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p := NewPlan(l, tc.collective, tc.bytes, 1, 0)
			items := allItems(&p, tc.chunk)
			if int64(len(items)) != tc.want || p.ItemCount(tc.chunk) != tc.want {
				t.Fatalf("%d items, ItemCount %d, want %d", len(items), p.ItemCount(tc.chunk), tc.want)
			}
			var sum int64
			for _, it := range items {
				sum += it.Bytes()
			}
			var total int64
			for i := range p.Flows() {
				total += p.Flow(i).Bytes
			}
			if sum != total {
				t.Errorf("items hold %d of %d bytes", sum, total)
			}
		})
	}
}

// A copied cursor walks on by itself, and an exhausted one stays exhausted.
func TestCursorIsAValue(t *testing.T) {
	p := NewPlan(even(t, 2, 1), AllReduce, 32*KiB, 4, 0)
	c := p.Items(8 * KiB)
	c.Next()
	other := c
	a, _ := c.Next()
	b, _ := other.Next()
	if a != b {
		t.Errorf("copies go on with %v and %v", a, b)
	}
	for range 10 {
		c.Next()
	}
	if it, ok := c.Next(); ok {
		t.Errorf("after the last item comes %v", it)
	}
}

func TestSegmentsOfABuffer(t *testing.T) {
	p := NewPlan(even(t, 2, 2), AllReduce, 20000, 4, 0)
	tests := []struct {
		item Item
		want Segment
	}{
		{Item{Flow: 0, Lo: 64, Hi: 256}, Segment{Rank: -1, Offset: 64, Lo: 0, Hi: 192}},
		{Item{Flow: 1, Lo: 64, Hi: 256}, Segment{Rank: -1, Offset: p.Flow(1).Offset + 64, Lo: 0, Hi: 192}},
	}
	for _, tc := range tests {
		c := p.Segments(p.layout, tc.item)
		if s, ok := c.Next(); !ok || s != tc.want {
			t.Errorf("%v: segment %+v, want %+v", tc.item, s, tc.want)
		}
		if s, ok := c.Next(); ok {
			t.Errorf("%v: second segment %+v", tc.item, s)
		}
	}
}

// Byte by byte: the virtual range of a flow is the blocks of the node's ranks in
// local-rank order, however it is cut.
func TestSegmentsOfBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t, 4, 4)
		block := rapid.Int64Range(1, 300).Draw(t, "block")
		p := NewPlan(l, rapid.SampledFrom([]Collective{ReduceScatter, AllGather}).Draw(t, "collective"), block, 1, 0)
		flow := rapid.IntRange(0, p.Flows()-1).Draw(t, "flow")
		bytes := p.Flow(flow).Bytes
		lo := rapid.Int64Range(0, bytes).Draw(t, "lo")
		it := Item{Flow: flow, Lo: lo, Hi: rapid.Int64Range(lo, bytes).Draw(t, "hi")}
		at := it.Lo
		for c := p.Segments(l, it); ; {
			s, ok := c.Next()
			if !ok {
				break
			}
			if s.Lo != at-it.Lo || s.Hi <= s.Lo {
				t.Fatalf("%v: segment %+v, want one from %d", it, s, at-it.Lo)
			}
			for i := range s.Hi - s.Lo {
				rank, offset := l.Nodes[flow][at/block], at%block
				if s.Rank != rank || s.Offset+i != offset {
					t.Fatalf("%v: byte %d is byte %d of rank %d, want byte %d of rank %d", it, at, s.Offset+i, s.Rank, offset, rank)
				}
				at++
			}
		}
		if at != it.Hi {
			t.Fatalf("%v: segments end at %d", it, at)
		}
	})
}
