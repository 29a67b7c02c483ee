// SPDX-License-Identifier: Apache-2.0

package schedule

import "math/bits"

// shape says how a tree's nodes are numbered. All trees have one form, written
// in positions 0..n-1 (see parentOf); a shape maps node indices to positions.
type shape uint8

const (
	rotated   shape = iota // position = (node - root) mod n
	mirrored               // position = n-1 - node
	staggered              // rotated, then positions 1..n-1 move on by one among themselves
)

// Tree is one binary tree over nodes 0..n-1. The zero value has no nodes.
//
// The form is the in-order tree of Sanders, Speck and Träff ("Two-tree
// algorithms for full bandwidth broadcast, reduction and scan", Parallel
// Computing 35, 2009) as NCCL numbers it: position 0 is the root and has one
// child; positions 1..n-1 form a binary search tree in which the position with
// more trailing zero bits is nearer to the root. So odd positions are leaves.
type Tree struct {
	n     int
	root  int
	shape shape
}

// DoubleBinary returns the pair of trees on which AllReduce sends one half of
// the data each. Every node has at most two children over both trees. For even
// n no node has children in both (tree 1 is the mirror image: odd positions
// become even); for odd n the mirror would keep interior nodes interior, so
// tree 1 is shifted by one, and only node 0 has one child in each.
func DoubleBinary(n int) [2]Tree {
	first := Tree{n: n}
	if n <= 1 {
		return [2]Tree{first, first}
	}
	if n%2 == 0 {
		return [2]Tree{first, {n: n, root: n - 1, shape: mirrored}}
	}
	return [2]Tree{first, {n: n, root: 1, shape: rotated}}
}

// RootedPair returns two trees with the same root, for Reduce and Broadcast. The
// root has one child in each; no other node has children in both, because
// moving the other positions on by one turns even ones into odd ones.
// 0 <= root < n.
func RootedPair(n, root int) [2]Tree {
	return [2]Tree{{n: n, root: root}, {n: n, root: root, shape: staggered}}
}

// Rotated returns the tree with the given root for one flow of ReduceScatter or
// AllGather. Over all n roots each node stands once at each position, so each
// carries the same load. All edges join nodes whose indices differ by a power of
// two (mod n), so all n trees need only O(log n) peers per node. 0 <= root < n.
func Rotated(n, root int) Tree { return Tree{n: n, root: root} }

// Nodes returns the number of nodes.
func (t Tree) Nodes() int { return t.n }

// Root returns the node that has no parent.
func (t Tree) Root() int { return t.root }

// Depth returns the number of edges from the root to the furthest node:
// the logarithm of n to base 2, rounded up.
func (t Tree) Depth() int {
	if t.n <= 1 {
		return 0
	}
	return bits.Len(uint(t.n - 1))
}

// Parent returns the node to which v sends its partial sums, or -1 for the root
// and for a v that is not a node of the tree.
func (t Tree) Parent(v int) int {
	if uint(v) >= uint(t.n) || v == t.root {
		return -1
	}
	return t.node(parentOf(t.position(v), t.n))
}

// Children returns the nodes from which v receives partial sums: c[0] and, if
// count is 2, c[1]. Their order is part of the result's bits: v adds c[0]'s
// partial sum before c[1]'s. A v that is not a node of the tree has none.
func (t Tree) Children(v int) (c [2]int, count int) {
	if uint(v) >= uint(t.n) {
		return c, 0
	}
	c, count = childrenOf(t.position(v), t.n)
	for i := range count {
		c[i] = t.node(c[i])
	}
	return c, count
}

// Covered returns what of gives for v and all nodes below it, added up.
func (t Tree) Covered(v int, of func(node int) int) int {
	c, count := t.Children(v)
	sum := of(v)
	for _, child := range c[:count] {
		sum += t.Covered(child, of)
	}
	return sum
}

// position returns where node v stands.
func (t Tree) position(v int) int {
	if t.shape == mirrored {
		return t.n - 1 - v
	}
	p := v - t.root
	if p < 0 {
		p += t.n
	}
	if t.shape == staggered && p > 0 {
		if p--; p == 0 {
			p = t.n - 1
		}
	}
	return p
}

// node returns who stands at position p; it is the inverse of position.
func (t Tree) node(p int) int {
	if t.shape == mirrored {
		return t.n - 1 - p
	}
	if t.shape == staggered && p > 0 {
		if p++; p == t.n {
			p = 1
		}
	}
	v := p + t.root
	if v >= t.n {
		v -= t.n
	}
	return v
}

// parentOf returns the parent of position p > 0. With b the lowest set bit of p,
// the parent has b cleared and 2b set; where that does not exist (the right edge
// of a tree whose size is no power of two) it is the position left of it.
func parentOf(p, n int) int {
	b := p & -p
	if up := p ^ b | b<<1; up < n {
		return up
	}
	return p ^ b
}

// childrenOf returns the children of position p. The right one is the top of
// what lies between p and the next position above it, and that part may be cut
// off at n: then its top is lower.
func childrenOf(p, n int) (c [2]int, count int) {
	if p == 0 {
		if n <= 1 {
			return c, 0
		}
		c[0] = 1 << (bits.Len(uint(n-1)) - 1)
		return c, 1
	}
	step := (p & -p) >> 1
	if step == 0 {
		return c, 0
	}
	c[0], count = p-step, 1
	for ; step > 0; step >>= 1 {
		if p+step < n {
			c[1] = p + step
			return c, 2
		}
	}
	return c, count
}
