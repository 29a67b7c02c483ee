// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"testing"

	"pgregory.net/rapid"
)

func TestCollectiveNames(t *testing.T) {
	want := []string{"AllReduce", "Reduce", "Broadcast", "ReduceScatter", "AllGather", "Barrier"}
	for i, c := range everyCollective {
		if c.String() != want[i] || int(c) != i {
			t.Errorf("collective %d is %v, want %s with number %d", c, c, want[i], i)
		}
	}
	if got := Collective(77).String(); got != "Collective(77)" {
		t.Errorf("unknown collective is %q", got)
	}
}

func TestFlowsOfEachCollective(t *testing.T) {
	l := layout(t, 0, 1, 2, 3, 4, 4, 4)
	double, rooted := DoubleBinary(5), RootedPair(5, 4)
	tests := []struct {
		collective Collective
		bytes      int64
		want       []Flow
	}{
		{AllReduce, 10000, []Flow{
			{Tree: double[0], Up: true, Down: true, Node: -1, Bytes: 5056},
			{Tree: double[1], Up: true, Down: true, Node: -1, Offset: 5056, Bytes: 4944},
		}},
		{AllReduce, MinSplitBytes + 1, []Flow{ // the larger part is tree 0's
			{Tree: double[0], Up: true, Down: true, Node: -1, Bytes: 4160},
			{Tree: double[1], Up: true, Down: true, Node: -1, Offset: 4160, Bytes: 4033},
		}},
		{AllReduce, MinSplitBytes - 1, []Flow{{Tree: double[0], Up: true, Down: true, Node: -1, Bytes: MinSplitBytes - 1}}},
		{AllReduce, 0, []Flow{{Tree: double[0], Up: true, Down: true, Node: -1}}},
		{Reduce, MinSplitBytes, []Flow{
			{Tree: rooted[0], Up: true, Node: 4, Bytes: MinSplitBytes / 2},
			{Tree: rooted[1], Up: true, Node: 4, Offset: MinSplitBytes / 2, Bytes: MinSplitBytes / 2},
		}},
		{Broadcast, 100, []Flow{{Tree: rooted[0], Down: true, Node: 4, Bytes: 100}}},
		{ReduceScatter, 100, []Flow{
			{Tree: Rotated(5, 0), Up: true, Node: 0, Bytes: 100},
			{Tree: Rotated(5, 1), Up: true, Node: 1, Bytes: 100},
			{Tree: Rotated(5, 2), Up: true, Node: 2, Bytes: 100},
			{Tree: Rotated(5, 3), Up: true, Node: 3, Bytes: 100},
			{Tree: Rotated(5, 4), Up: true, Node: 4, Bytes: 300},
		}},
		{Barrier, 12345, []Flow{{Tree: double[0], Up: true, Down: true, Node: -1}}},
	}
	for _, tc := range tests {
		t.Run(tc.collective.String(), func(t *testing.T) {
			p := NewPlan(l, tc.collective, tc.bytes, 4, 5)
			if p.Flows() != len(tc.want) {
				t.Fatalf("%d flows, want %d", p.Flows(), len(tc.want))
			}
			for i, want := range tc.want {
				if got := p.Flow(i); got != want {
					t.Errorf("flow %d: %+v, want %+v", i, got, want)
				}
			}
			if wantRoot := map[bool]int{true: 5, false: -1}[tc.collective.rooted()]; p.Root != wantRoot {
				t.Errorf("root %d, want %d", p.Root, wantRoot)
			}
		})
	}
}

func TestOneNodeHasOneFlow(t *testing.T) {
	l := even(t, 1, 4)
	for _, c := range everyCollective {
		p := NewPlan(l, c, MiB, 4, 2)
		if p.Flows() != 1 || p.Flow(0).Tree.Depth() != 0 {
			t.Errorf("%v: %d flows, the first of depth %d", c, p.Flows(), p.Flow(0).Tree.Depth())
		}
	}
}

// The flows of a buffer follow each other without gaps, are cut between
// elements, and differ by less than two units.
func TestFlowsCoverTheBuffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t, 5, 3)
		elem := rapid.SampledFrom([]int{1, 2, 3, 4, 8}).Draw(t, "element size")
		bytes := rapid.Int64Range(0, 1<<62/8).Draw(t, "elements") * int64(elem)
		p := NewPlan(l, rapid.SampledFrom([]Collective{AllReduce, Reduce, Broadcast}).Draw(t, "collective"), bytes, elem, 0)
		var at int64
		for i := range p.Flows() {
			f := p.Flow(i)
			if f.Offset != at || f.Offset%int64(elem) != 0 || f.Offset%align != 0 {
				t.Fatalf("flow %d starts at %d, want %d", i, f.Offset, at)
			}
			at += f.Bytes
		}
		if at != bytes {
			t.Fatalf("flows cover %d of %d bytes", at, bytes)
		}
		if d := 2*p.Flow(0).Bytes - bytes; p.Flows() == 2 && (d < 0 || d >= 2*cutUnit(elem)) {
			t.Fatalf("tree 0 carries %d of %d bytes", p.Flow(0).Bytes, bytes)
		}
	})
}

// The bits of a sum must not depend on the chunk size: whatever it is, the items
// of each flow cover exactly the flow's bytes.
func TestChunkDoesNotMoveBytesBetweenFlows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t, drawLayout(t, 6, 3), 40000)
		chunk := rapid.Int64Range(1, 50000).Draw(t, "chunk")
		at := make([]int64, p.Flows())
		for _, it := range allItems(&p, chunk) {
			if it.Lo != at[it.Flow] {
				t.Fatalf("chunk %d: %v, want it to start at %d", chunk, it, at[it.Flow])
			}
			at[it.Flow] = it.Hi
		}
		for i, end := range at {
			if end != p.Flow(i).Bytes {
				t.Fatalf("chunk %d: flow %d ends at %d of %d", chunk, i, end, p.Flow(i).Bytes)
			}
		}
	})
}
