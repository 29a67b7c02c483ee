// SPDX-License-Identifier: Apache-2.0

package schedule

import "testing"

// walk does what an engine does for one collective on one rank.
func walk(l *Layout, c Collective, bytes int64) (sum int64) {
	p := NewPlan(l, c, bytes, 4, 1)
	items := p.Items(16 * KiB)
	for it, ok := items.Next(); ok; it, ok = items.Next() {
		f := p.Flow(it.Flow)
		for v := range l.NodeCount() {
			children, count := f.Tree.Children(v)
			sum += int64(f.Tree.Parent(v) + children[0] + count)
		}
		for s := range ShardCount(it.Bytes(), l.Shards()) {
			lo, hi := Shard(it.Bytes(), 4, l.Shards(), s)
			segments := p.Segments(l, Item{Flow: it.Flow, Lo: it.Lo + lo, Hi: it.Lo + hi})
			for seg, ok := segments.Next(); ok; seg, ok = segments.Next() {
				sum += seg.Offset + int64(l.Owner(0, s)+l.LocalRank(max(seg.Rank, 0)))
			}
		}
	}
	return sum + p.ItemCount(16*KiB)
}

func TestPlansAllocateNothing(t *testing.T) {
	l := layout(t, 0, 1, 1, 2, 3, 0, 4)
	var sink int64
	for _, c := range everyCollective {
		if allocs := testing.AllocsPerRun(20, func() { sink += walk(l, c, 100*KiB) }); allocs != 0 {
			t.Errorf("%v: %v allocations for a plan and its items", c, allocs)
		}
	}
	if sink == 0 {
		t.Error("nothing was walked")
	}
}
