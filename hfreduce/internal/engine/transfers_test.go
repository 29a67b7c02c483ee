// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// drawRoute returns a collective as one rank sees it, with the buffers' sizes in bytes.
func drawRoute(t *rapid.T, layout *schedule.Layout, rank int) (r Route, in, out int64) {
	kinds := []schedule.Collective{schedule.AllReduce, schedule.Reduce, schedule.Broadcast, schedule.ReduceScatter, schedule.AllGather}
	kind := rapid.SampledFrom(kinds).Draw(t, "collective")
	r.Elem = rapid.SampledFrom([]int{1, 2, 4, 8}).Draw(t, "elem")
	bytes := int64(r.Elem) * rapid.Int64Range(0, 40_000).Draw(t, "count")
	root := rapid.IntRange(0, layout.WorldSize()-1).Draw(t, "root")
	r.Plan = schedule.NewPlan(layout, kind, bytes, r.Elem, root)
	all := bytes * int64(layout.WorldSize())
	switch kind {
	case schedule.AllReduce:
		r.In, r.Out = Whole, Whole
		return r, bytes, bytes
	case schedule.Reduce:
		if r.In = Whole; rank == root {
			r.Out = Whole
			return r, bytes, bytes
		}
		return r, bytes, 0
	case schedule.Broadcast:
		if r.Out = Whole; rank == root {
			r.In = Whole
			return r, bytes, bytes
		}
		return r, 0, bytes
	case schedule.ReduceScatter:
		r.In, r.Out = Blocks, Own
		return r, all, bytes
	default:
		r.In, r.Out, r.SkipOwnBlock = Own, Blocks, rapid.Bool().Draw(t, "in place")
		return r, bytes, all
	}
}

// coverage counts how often each byte of a buffer is copied, and holds runs against the areas of a slot.
type coverage struct {
	buffer  []int
	segment map[int64]bool // bytes of the item at hand
}

func (c *coverage) add(t *rapid.T, runs []Run, lo, hi int64) {
	c.segment = map[int64]bool{}
	for _, run := range runs {
		if run.Bytes <= 0 || run.Rows <= 0 {
			t.Fatalf("empty run %+v", run)
		}
		for row := range int64(run.Rows) {
			for i := range run.Bytes {
				at := run.Segment + row*run.Stride + i
				if at < lo || at >= hi || c.segment[at] {
					t.Fatalf("run %+v: byte %d of the segment is outside [%d,%d), or copied twice", run, at, lo, hi)
				}
				c.segment[at] = true
				c.buffer[run.Buffer+row*run.Bytes+i]++
			}
		}
	}
}

// TestTransfersCoverBuffers: over all items of a collective, each byte that a rank gives is copied into a slot once, each that
// it takes out of one once, and nothing outside the areas of the item's slot is touched.
func TestTransfersCoverBuffers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.IntRange(1, 4).Draw(t, "nodes")
		nodeOf := []int{}
		for n := range nodes {
			for range rapid.IntRange(1, 4).Draw(t, "ranks") {
				nodeOf = append(nodeOf, n)
			}
		}
		layout, err := schedule.NewLayout(nodeOf)
		if err != nil {
			t.Fatal(err)
		}
		rank := rapid.IntRange(0, len(nodeOf)-1).Draw(t, "rank")
		node := layout.NodeOf(rank)
		slots := rapid.SampledFrom([]int{1, 2, 4}).Draw(t, "slots")
		g := NewGeometry(len(layout.Nodes[node]), layout.Shards(), slots, 16<<10, 0, schedule.Exchange{}).WithDevices()
		tr := Transfers{layout: &layout, rank: rank, node: node, local: layout.LocalRank(rank), geometry: g}
		r, in, out := drawRoute(t, &layout, rank)
		chunk := rapid.SampledFrom([]int64{4 << 10, 12 << 10, 16 << 10}).Draw(t, "chunk")

		given, taken := coverage{buffer: make([]int, in)}, coverage{buffer: make([]int, out)}
		seq := rapid.Uint32().Draw(t, "first")
		items := uint32(0)
		for cursor := r.Plan.Items(chunk); ; items++ {
			cut, more := cursor.Next()
			if !more {
				break
			}
			slot := int((seq + items) % uint32(slots))
			inLo, outLo := g.inputAt(slot, tr.local), g.resultAt(slot, 0)
			lo, hi := inLo, inLo+chunk
			if !r.Plan.Flow(cut.Flow).Up {
				lo, hi = outLo, g.resultAt(slot, g.shards-1)+g.shardMax
			}
			given.add(t, tr.Fills(nil, &r, cut, seq+items), lo, hi)
			taken.add(t, tr.Drains(nil, &r, cut, seq+items), outLo, g.resultAt(slot, g.shards-1)+g.shardMax)
		}
		if n := tr.Numbers(&r.Plan, 1<<40, chunk); n != items {
			t.Fatalf("the collective has %d items, Numbers says %d", items, n)
		}
		for i, n := range given.buffer {
			if n != 1 {
				t.Fatalf("byte %d of what the rank gives is copied %d times", i, n)
			}
		}
		for i, n := range taken.buffer {
			want := 1
			if r.SkipOwnBlock && int64(i)/max(1, r.Plan.Block) == int64(rank) {
				want = 0
			}
			if n != want {
				t.Fatalf("byte %d of what the rank takes is copied %d times, want %d", i, n, want)
			}
		}
	})
}
