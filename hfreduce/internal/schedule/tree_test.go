// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// checkTree walks a tree from its root and fails unless every node is reached
// exactly once, parents and children agree, and the depth is that of Depth. It
// adds each node's number of children to totals.
func checkTree(t rapid.TB, tree Tree, totals []int) {
	t.Helper()
	n := tree.Nodes()
	seen := make([]bool, n)
	type visit struct{ node, depth int }
	stack := []visit{{tree.Root(), 0}}
	reached, deepest := 0, 0
	if p := tree.Parent(tree.Root()); p != -1 {
		t.Fatalf("%+v: root %d has parent %d", tree, tree.Root(), p)
	}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[at.node] {
			t.Fatalf("%+v: node %d reached twice", tree, at.node)
		}
		seen[at.node] = true
		reached++
		deepest = max(deepest, at.depth)
		children, count := tree.Children(at.node)
		totals[at.node] += count
		for _, c := range children[:count] {
			if c < 0 || c >= n || tree.Parent(c) != at.node {
				t.Fatalf("%+v: node %d has child %d, whose parent is %d", tree, at.node, c, tree.Parent(c))
			}
			stack = append(stack, visit{c, at.depth + 1})
		}
	}
	if reached != n {
		t.Fatalf("%+v: %d of %d nodes reached", tree, reached, n)
	}
	if deepest != tree.Depth() {
		t.Fatalf("%+v: depth %d, Depth says %d", tree, deepest, tree.Depth())
	}
}

// logCeil is Depth by another way than bits.Len.
func logCeil(n int) int { return int(math.Ceil(math.Log2(float64(n)))) }

func TestDoubleBinaryOfEverySize(t *testing.T) {
	for n := 1; n <= 2048; n++ {
		trees := DoubleBinary(n)
		totals := make([]int, n)
		for i, tree := range trees {
			checkTree(t, tree, totals)
			if tree.Depth() != logCeil(n) {
				t.Fatalf("n=%d tree %d: depth %d, want %d", n, i, tree.Depth(), logCeil(n))
			}
		}
		for v, children := range totals {
			if children > 2 {
				t.Fatalf("n=%d: node %d has %d children over both trees", n, v, children)
			}
		}
		if n > 1 && trees[0].Root() == trees[1].Root() {
			t.Fatalf("n=%d: both trees have root %d", n, trees[0].Root())
		}
	}
}

// checkRootedPair also returns the number of nodes with children in both trees.
func checkRootedPair(t rapid.TB, n, root int) {
	t.Helper()
	totals := make([]int, n)
	trees := RootedPair(n, root)
	for _, tree := range trees {
		checkTree(t, tree, totals)
		_, count := tree.Children(root)
		if tree.Root() != root || count != min(1, n-1) {
			t.Fatalf("n=%d root=%d: tree has root %d with %d children", n, root, tree.Root(), count)
		}
	}
	for v, children := range totals {
		_, first := trees[0].Children(v)
		if children > 2 || v != root && first > 0 && children > first {
			t.Fatalf("n=%d root=%d: node %d has %d children in tree 0 and %d over both", n, root, v, first, children)
		}
	}
}

func TestRootedPairOfEverySizeAndRoot(t *testing.T) {
	for n := 1; n <= 130; n++ {
		for root := range n {
			checkRootedPair(t, n, root)
		}
	}
}

func TestRootedPairLarge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(131, 4096).Draw(t, "n")
		checkRootedPair(t, n, rapid.IntRange(0, n-1).Draw(t, "root"))
	})
}

func TestRotatedLoadsAllNodesEqually(t *testing.T) {
	for n := 1; n <= 130; n++ {
		totals := make([]int, n)
		for root := range n {
			tree := Rotated(n, root)
			if tree.Root() != root {
				t.Fatalf("n=%d: root is %d, want %d", n, tree.Root(), root)
			}
			checkTree(t, tree, totals)
		}
		// Every node is a child in all trees but its own: that is the sending side.
		for v, children := range totals {
			if children != n-1 {
				t.Fatalf("n=%d: node %d receives %d blocks, want %d", n, v, children, n-1)
			}
		}
	}
}

func TestRotatedNeedsFewPeers(t *testing.T) {
	for n := 2; n <= 130; n++ {
		peers := map[int]bool{} // of node 0, over all roots
		for root := range n {
			tree := Rotated(n, root)
			children, count := tree.Children(0)
			for _, c := range children[:count] {
				peers[c] = true
			}
			if p := tree.Parent(0); p >= 0 {
				peers[p] = true
			}
		}
		for p := range peers {
			if d := min(p, n-p); d&(d-1) != 0 && max(p, n-p)&(max(p, n-p)-1) != 0 {
				t.Fatalf("n=%d: node 0 has peer %d, at no power of two", n, p)
			}
		}
		if len(peers) > 2*logCeil(n) {
			t.Fatalf("n=%d: node 0 has %d peers, want at most %d", n, len(peers), 2*logCeil(n))
		}
	}
}

// TestChildOrder pins the order that the sums' bits depend on.
func TestChildOrder(t *testing.T) {
	tests := []struct {
		name string
		tree Tree
		node int
		want []int
	}{
		{"tree 0 root", DoubleBinary(8)[0], 0, []int{4}},
		{"tree 0 interior", DoubleBinary(8)[0], 4, []int{2, 6}},
		{"tree 0 cut off at n", DoubleBinary(6)[0], 4, []int{2, 5}},
		{"tree 0 leaf", DoubleBinary(8)[0], 3, nil},
		{"mirror", DoubleBinary(8)[1], 3, []int{5, 1}},
		{"shift", DoubleBinary(7)[1], 5, []int{3, 0}},
		{"staggered", RootedPair(8, 2)[1], 7, []int{5, 2 + 7 - 8}},
		{"one node", DoubleBinary(1)[0], 0, nil},
		{"no such node", DoubleBinary(8)[0], 8, nil},
		{"negative node", DoubleBinary(8)[1], -1, nil},
		{"zero tree", Tree{}, 0, nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c, count := tc.tree.Children(tc.node)
			if !slices.Equal(c[:count], tc.want) {
				t.Errorf("children of %d: %v, want %v", tc.node, c[:count], tc.want)
			}
		})
	}
}

func TestParentOutsideTheTree(t *testing.T) {
	for _, tree := range []Tree{{}, DoubleBinary(5)[0], DoubleBinary(6)[1], RootedPair(5, 3)[1]} {
		for _, v := range []int{-1, tree.Nodes(), 1 << 40} {
			if p := tree.Parent(v); p != -1 {
				t.Errorf("%+v: parent of %d is %d, want -1", tree, v, p)
			}
		}
	}
}

// TestCovered: what is below a node is below its parent, and everything is below the root.
func TestCovered(t *testing.T) {
	weight := func(node int) int { return node + 1 }
	for n := 1; n < 40; n++ {
		for _, tree := range append([]Tree{Rotated(n, n/2)}, trees(n)...) {
			for v := range n {
				want := 0
				for u := range n {
					for above := u; above >= 0; above = tree.Parent(above) {
						if above == v {
							want += weight(u)
						}
					}
				}
				if got := tree.Covered(v, weight); got != want {
					t.Fatalf("%d nodes, %+v: node %d covers %d, want %d", n, tree, v, got, want)
				}
			}
		}
	}
}

func trees(n int) []Tree {
	pair := DoubleBinary(n)
	return pair[:]
}
