// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

const (
	KiB = 1 << 10
	MiB = 1 << 20
)

var everyCollective = []Collective{AllReduce, Reduce, Broadcast, ReduceScatter, AllGather, Barrier}

// picker returns an order of events that the seed decides.
func picker(seed uint64) func(int) int {
	return rand.New(rand.NewPCG(seed, 0)).IntN
}

// even returns the layout of nodes times local ranks, contiguous.
func even(t testing.TB, nodes, local int) *Layout {
	t.Helper()
	nodeOf := make([]int, 0, nodes*local)
	for v := range nodes {
		for range local {
			nodeOf = append(nodeOf, v)
		}
	}
	return layout(t, nodeOf...)
}

func layout(t testing.TB, nodeOf ...int) *Layout {
	t.Helper()
	l, err := NewLayout(nodeOf)
	if err != nil {
		t.Fatal(err)
	}
	return &l
}

// drawLayout returns nodes of different sizes whose ranks are strewn about.
func drawLayout(t *rapid.T, maxNodes, maxLocal int) *Layout {
	nodes := rapid.IntRange(1, maxNodes).Draw(t, "nodes")
	var nodeOf []int
	for v := range nodes {
		for range rapid.IntRange(1, maxLocal).Draw(t, "local size") {
			nodeOf = append(nodeOf, v)
		}
	}
	l, err := NewLayout(rapid.Permutation(nodeOf).Draw(t, "node of rank"))
	if err != nil {
		t.Fatal(err)
	}
	return &l
}

func drawPlan(t *rapid.T, l *Layout, maxElements int) Plan {
	c := rapid.SampledFrom(everyCollective).Draw(t, "collective")
	elem := rapid.SampledFrom([]int{1, 2, 4, 8}).Draw(t, "element size")
	count := rapid.IntRange(0, maxElements).Draw(t, "elements")
	root := rapid.IntRange(0, l.WorldSize()-1).Draw(t, "root")
	return NewPlan(l, c, int64(count*elem), elem, root)
}

// allItems walks the cursor to its end.
func allItems(p *Plan, chunk int64) []Item {
	var items []Item
	for c := p.Items(chunk); ; {
		it, ok := c.Next()
		if !ok {
			return items
		}
		items = append(items, it)
	}
}

// edgeTraffic adds up what each node sends and receives, edge by edge, straight
// from Parent: independent of the simulation and of Children.
func edgeTraffic(l *Layout, p *Plan) (tx, rx []int64) {
	tx, rx = make([]int64, l.NodeCount()), make([]int64, l.NodeCount())
	for i := range p.Flows() {
		f := p.Flow(i)
		for v := range l.NodeCount() {
			parent := f.Tree.Parent(v)
			if parent < 0 {
				continue
			}
			if f.Up {
				tx[v] += f.Bytes
				rx[parent] += f.Bytes
			}
			if f.Down {
				tx[parent] += f.Bytes
				rx[v] += f.Bytes
			}
		}
	}
	return tx, rx
}

// degree returns the number of neighbours.
func degree(t Tree, v int) int {
	_, d := t.Children(v)
	if t.Parent(v) >= 0 {
		d++
	}
	return d
}
