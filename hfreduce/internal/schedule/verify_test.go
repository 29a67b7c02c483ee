// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Any plan on any layout is right and free of deadlocks with any number of
// slots, in the fixed and in a random order of events; and the orders agree.
func TestVerifyAnyPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t, 9, 4)
		p := drawPlan(t, l, 20000)
		chunk := rapid.Int64Range(0, 40000).Draw(t, "chunk")
		if int64(p.ItemCount(chunk)) > 300 {
			chunk = 16 * KiB // tiny chunks are for small buffers, else this takes long
		}
		slots := rapid.IntRange(1, 6).Draw(t, "slots")
		report, err := Verify(l, &p, chunk, slots)
		if err != nil {
			t.Fatal(err)
		}
		checkReport(t, l, &p, chunk, &report)
		pick := picker(rapid.Uint64().Draw(t, "seed"))
		other, err := verify(l, &p, newModel(l, &p, chunk), slots, pick)
		if err != nil {
			t.Fatalf("random order: %v", err)
		}
		if !reflect.DeepEqual(report, other) {
			t.Fatalf("the order of events changes the report: %+v and %+v", report, other)
		}
	})
}

// checkReport compares a report with costs that are counted another way.
func checkReport(t rapid.TB, l *Layout, p *Plan, chunk int64, r *Report) {
	t.Helper()
	tx, rx := edgeTraffic(l, p)
	if !slices.Equal(r.Tx, tx) || !slices.Equal(r.Rx, rx) {
		t.Fatalf("%v: tx %v and rx %v, want %v and %v", p.Collective, r.Tx, r.Rx, tx, rx)
	}
	if r.MaxTx() != slices.Max(tx) || r.MaxRx() != slices.Max(rx) {
		t.Fatalf("%v: max tx %d and rx %d, want those of %v and %v", p.Collective, r.MaxTx(), r.MaxRx(), tx, rx)
	}
	if r.Items != p.ItemCount(chunk) {
		t.Fatalf("%v: %d items, want %d", p.Collective, r.Items, p.ItemCount(chunk))
	}
	directions := 1
	if p.Collective == AllReduce || p.Collective == Barrier {
		directions = 2
	}
	depth, hops, messages := logCeil(l.NodeCount()), 0, int64(0)
	for _, it := range allItems(p, chunk) {
		if hops = directions * depth; p.Collective == AllReduce && l.NodeCount() == 2 {
			hops = 1 // a pair: both at once
		}
		messages += int64(directions * (l.NodeCount() - 1) * ShardCount(it.Bytes(), l.Shards()))
	}
	if r.Depth != depth || r.Hops != hops || r.Messages != messages {
		t.Fatalf("%v: depth %d, hops %d, messages %d, want %d, %d, %d", p.Collective, r.Depth, r.Hops, r.Messages, depth, hops, messages)
	}
}

// Every collective on every number of nodes, with every root there is.
func TestVerifyEveryNodeCount(t *testing.T) {
	for n := 1; n <= 20; n++ {
		l := even(t, n, 1)
		for _, c := range everyCollective {
			for root := range n {
				if root > 0 && !c.rooted() {
					break
				}
				p := NewPlan(l, c, 10000, 4, root)
				r, err := Verify(l, &p, 4*KiB, 2)
				if err != nil {
					t.Fatalf("n=%d root=%d %v: %v", n, root, c, err)
				}
				checkReport(t, l, &p, 4*KiB, &r)
			}
		}
	}
}

func TestVerifyManyNodes(t *testing.T) {
	for _, n := range []int{64, 127, 512, 1025} {
		l := even(t, n, 1)
		for _, c := range everyCollective {
			if c.blocked() && n > 130 {
				continue // n flows on n nodes with sets of n ranks: too slow for a quick test
			}
			p := NewPlan(l, c, 20000, 4, n/3)
			if _, err := Verify(l, &p, 8*KiB, 3); err != nil {
				t.Errorf("n=%d %v: %v", n, c, err)
			}
		}
	}
}

// The simulator must itself keep to its rules: no more items in flight than
// slots, nothing sent that is not granted; and it must use all slots, or else
// it would prove nothing about several.
func TestSimulationKeepsToTheSlots(t *testing.T) {
	l := layout(t, 0, 1, 1, 2, 3, 4, 5)
	for _, slots := range []int{1, 2, 3, 100} {
		p := NewPlan(l, AllReduce, 80*KiB, 4, 0)
		most, choose := 0, picker(uint64(slots))
		var s *simulation
		s = newSimulation(l, &p, newModel(l, &p, 4*KiB), slots, func(n int) int {
			for v := range s.nodes {
				first, _ := s.nodes[v].unfinished()
				most = max(most, s.nodes[v].started-first)
			}
			for _, m := range s.ready {
				if m.seq >= s.nodes[m.to].started {
					t.Fatalf("item %d may be sent to node %d, which grants %d", m.seq, m.to, s.nodes[m.to].started)
				}
			}
			return choose(n)
		})
		if err := s.run(); err != nil {
			t.Fatal(err)
		}
		if want := min(slots, int(p.ItemCount(4*KiB))); most != want {
			t.Errorf("%d slots: at most %d items in flight, want %d", slots, most, want)
		}
	}
}

func TestVerifyRefusesBadArguments(t *testing.T) {
	l, other := even(t, 2, 2), even(t, 2, 2)
	good, badRoot := NewPlan(l, Reduce, 64, 4, 3), NewPlan(l, Reduce, 64, 4, 4)
	tests := []struct {
		name   string
		layout *Layout
		plan   *Plan
		slots  int
		want   string
	}{
		{"no slots", l, &good, 0, "0 slots: at least one"},
		{"another layout", other, &good, 1, "another layout"},
		{"no such root", l, &badRoot, 1, "root rank 4: ranks are 0 to 3"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Verify(tc.layout, tc.plan, KiB, tc.slots)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}
