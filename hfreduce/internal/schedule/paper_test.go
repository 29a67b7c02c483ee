// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"testing"
	"unsafe"
)

// One test for each sentence about the algorithm that can be checked here, from
// [HFReduce] "Fire-Flyer AI-HPC", SC24, section IV, and [2tree] Sanders, Speck,
// Träff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan",
// Parallel Computing 35 (2009). The sentences are in our words.

// [2tree]: both trees are binary trees that span all processors.
func TestPaperBothTreesSpanAllNodes(t *testing.T) {
	for n := 1; n <= 300; n++ {
		for _, tree := range DoubleBinary(n) {
			checkTree(t, tree, make([]int, n)) // Children returns two at most by its type
		}
	}
}

// [2tree]: a processor is an interior node in at most one of the trees. For odd
// n one exception is unavoidable with roots of one child: it is node 0, with one
// child in each.
func TestPaperInteriorInOneTreeOnly(t *testing.T) {
	for n := 2; n <= 2048; n++ {
		trees := DoubleBinary(n)
		for v := range n {
			_, first := trees[0].Children(v)
			_, second := trees[1].Children(v)
			if first == 0 || second == 0 {
				continue
			}
			if n%2 == 0 || v != 0 || first+second != 2 {
				t.Fatalf("n=%d: node %d has %d and %d children", n, v, first, second)
			}
		}
	}
}

// [2tree]: the height is logarithmic; ours is the least power of two's exponent
// that holds n nodes.
func TestPaperHeight(t *testing.T) {
	for n := 1; n <= 2048; n++ {
		for i, tree := range DoubleBinary(n) {
			if d := tree.Depth(); 1<<d < n || d > 0 && 1<<(d-1) >= n {
				t.Fatalf("n=%d tree %d: depth %d", n, i, d)
			}
		}
	}
}

// [2tree]: the edges of both trees can be coloured with two colours such that a
// processor sends at most one and receives at most one message of a colour. So
// with full-duplex links every link can be busy in every step.
func TestPaperTwoColours(t *testing.T) {
	for n := 2; n <= 300; n++ {
		colours := colourEdges(DoubleBinary(n))
		type end struct {
			node, colour int
			sends        bool
		}
		used := map[end]bool{}
		for tree := range 2 {
			for v, colour := range colours[tree] {
				parent := DoubleBinary(n)[tree].Parent(v)
				if parent < 0 {
					continue
				}
				for _, e := range []end{{v, colour, true}, {parent, colour, false}} {
					if used[e] {
						t.Fatalf("n=%d: node %d has two edges of colour %d (sends: %t)", n, e.node, colour, e.sends)
					}
					used[e] = true
				}
			}
		}
	}
}

// colourEdges colours the edge from v to its parent in each tree: all edges that
// share a sender (v's two) or a receiver (a parent's two) get different colours.
func colourEdges(trees [2]Tree) (colours [2][]int) {
	n := trees[0].Nodes()
	for i := range colours {
		colours[i] = make([]int, n)
		for v := range colours[i] {
			colours[i][v] = -1
		}
	}
	var colour func(tree, v, c int)
	colour = func(tree, v, c int) {
		parent := trees[tree].Parent(v)
		if parent < 0 || colours[tree][v] >= 0 {
			return
		}
		colours[tree][v] = c
		colour(1-tree, v, 1-c) // the other edge on which v sends
		for i := range trees { // the other edge on which the parent receives
			children, count := trees[i].Children(parent)
			for _, w := range children[:count] {
				if i != tree || w != v {
					colour(i, w, 1-c)
				}
			}
		}
	}
	for v := range n {
		for tree := range trees {
			colour(tree, v, 0)
		}
	}
	return colours
}

// [2tree]: every processor can work out its neighbours by itself, in O(log p)
// time, without tables.
func TestPaperLocalConstruction(t *testing.T) {
	if size := unsafe.Sizeof(Tree{}); size > 24 {
		t.Errorf("a tree has %d bytes, want at most 24 for any number of nodes", size)
	}
	const n = 1 << 40 // far beyond what a table could hold
	trees := DoubleBinary(n)
	for _, v := range []int{1, 12345678901, n / 2, n - 1} {
		for _, tree := range trees {
			children, count := tree.Children(v)
			for _, c := range children[:count] {
				if tree.Parent(c) != v {
					t.Errorf("node %d has child %d, whose parent is %d", v, c, tree.Parent(c))
				}
			}
		}
	}
}

// [2tree]: each tree carries one half of the data.
func TestPaperHalfTheDataOnEachTree(t *testing.T) {
	for n := 2; n < 10; n++ {
		p := NewPlan(even(t, n, 1), AllReduce, MiB, 4, 0)
		if p.Flows() != 2 || p.Flow(0).Bytes != MiB/2 || p.Flow(1).Bytes != MiB/2 || p.Flow(1).Offset != MiB/2 {
			t.Fatalf("n=%d: flows %+v and %+v", n, p.Flow(0), p.Flow(1))
		}
	}
}

// [2tree]: reduction is broadcast with all edges turned round.
func TestPaperReduceIsBroadcastBackwards(t *testing.T) {
	for n := 1; n <= 20; n++ {
		l := even(t, n, 2)
		reduce, broadcast := NewPlan(l, Reduce, 20000, 4, n), NewPlan(l, Broadcast, 20000, 4, n)
		up, err := Verify(l, &reduce, 4*KiB, 2)
		if err != nil {
			t.Fatal(err)
		}
		down, err := Verify(l, &broadcast, 4*KiB, 2)
		if err != nil {
			t.Fatal(err)
		}
		for v := range n {
			if up.Tx[v] != down.Rx[v] || up.Rx[v] != down.Tx[v] {
				t.Fatalf("n=%d node %d: reduce sends %d and receives %d, broadcast sends %d and receives %d",
					n, v, up.Tx[v], up.Rx[v], down.Tx[v], down.Rx[v])
			}
		}
	}
}

// [HFReduce]: the scheme serves general reduce and broadcast as well, which have
// a root that the caller chooses.
func TestPaperReduceAndBroadcastWithAnyRoot(t *testing.T) {
	l := layout(t, 2, 0, 1, 1, 3, 0, 4, 2)
	for _, c := range []Collective{Reduce, Broadcast} {
		for root := range l.WorldSize() {
			p := NewPlan(l, c, 20000, 4, root)
			if _, err := Verify(l, &p, 4*KiB, 1); err != nil {
				t.Errorf("%v from root %d: %v", c, root, err)
			}
		}
	}
}

// [HFReduce], algorithm 2: a chunk is added on its way up; at the root of the
// tree it is final and turns round at once, down the same tree. Two nodes do it in one step (Flow.Pair).
func TestPaperChunkTurnsRoundAtTheRoot(t *testing.T) {
	for n := 1; n <= 64; n++ {
		l := even(t, n, 1)
		p := NewPlan(l, AllReduce, 64*KiB, 4, 0)
		r, err := Verify(l, &p, 4*KiB, 4)
		if err != nil {
			t.Fatal(err)
		}
		want := 2 * r.Depth
		if n == 2 {
			want = 1
		}
		if r.Hops != want || p.Flow(0).Tree != DoubleBinary(n)[0] {
			t.Fatalf("n=%d: %d messages one after the other, depth %d", n, r.Hops, r.Depth)
		}
	}
}

// [HFReduce]: data are cut into chunks that are pipelined. Cutting costs no
// bytes, and both trees always have a chunk in work.
func TestPaperChunksArePipelined(t *testing.T) {
	l := even(t, 7, 1)
	p := NewPlan(l, AllReduce, 256*KiB, 4, 0)
	whole, err := Verify(l, &p, MiB, 1)
	if err != nil {
		t.Fatal(err)
	}
	chunked, err := Verify(l, &p, 4*KiB, 8)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Items != 2 || chunked.Items != 64 || whole.MaxTx() != chunked.MaxTx() || whole.MaxRx() != chunked.MaxRx() {
		t.Errorf("in one chunk %+v, in many %+v", whole, chunked)
	}
	for seq, it := range allItems(&p, 4*KiB) {
		if it.Flow != seq%2 {
			t.Fatalf("item %d is %v", seq, it)
		}
	}
}

// [HFReduce]: a node's network card carries up to twice the data each way, which
// bounds the bandwidth to half the card's.
func TestPaperTrafficIsAtMostTwiceTheData(t *testing.T) {
	const half = 1 << 20
	for n := 1; n <= 2048; n++ {
		trees := DoubleBinary(n)
		most, sum := 0, 0
		for v := range n {
			traffic := half * (degree(trees[0], v) + degree(trees[1], v))
			most, sum = max(most, traffic), sum+traffic
		}
		want := 4 * half // twice the data, which are two halves
		if n < 4 {
			want = []int{0, 2 * half, 3 * half}[n-1]
		}
		if most != want || sum != 4*half*(n-1) {
			t.Fatalf("n=%d: at most %d bytes and %d over all nodes, want %d and %d", n, most, sum, want, 4*half*(n-1))
		}
	}
}
