// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"errors"
	"fmt"
)

// Layout says which ranks live on which node. Nodes may have different numbers
// of ranks, and a node's ranks need not be contiguous. A Layout is made by
// [NewLayout] and then only read.
type Layout struct {
	// Nodes holds the ranks of each node in the order of their local ranks. This
	// order is part of the result's bits: a node adds its ranks' inputs in it.
	Nodes [][]int

	nodeOf  []int // by rank
	localOf []int // by rank
	shards  int
}

// NewLayout makes the layout in which rank r lives on node nodeOf[r]. Nodes are
// numbered 0..n-1 and each must have a rank. A node's local ranks follow the
// order of the ranks.
func NewLayout(nodeOf []int) (Layout, error) {
	sizes, err := countRanks(nodeOf)
	if err != nil {
		return Layout{}, err
	}
	l := Layout{
		Nodes:   make([][]int, len(sizes)),
		nodeOf:  append([]int(nil), nodeOf...),
		localOf: make([]int, len(nodeOf)),
	}
	for v, size := range sizes {
		l.Nodes[v] = make([]int, 0, size)
		l.shards = max(l.shards, size)
	}
	for rank, v := range nodeOf {
		l.localOf[rank] = len(l.Nodes[v])
		l.Nodes[v] = append(l.Nodes[v], rank)
	}
	return l, nil
}

// countRanks returns the number of ranks of each node.
func countRanks(nodeOf []int) ([]int, error) {
	if len(nodeOf) == 0 {
		return nil, errors.New("schedule: a layout needs at least one rank")
	}
	nodes := 0
	for rank, v := range nodeOf {
		// A node index beyond the number of ranks leaves some node empty; refusing
		// it here also keeps the tables below small.
		if v < 0 || v >= len(nodeOf) {
			return nil, fmt.Errorf("schedule: rank %d is on node %d, but %d ranks can be on nodes 0 to %d only: number the nodes from 0 without gaps",
				rank, v, len(nodeOf), len(nodeOf)-1)
		}
		nodes = max(nodes, v+1)
	}
	sizes := make([]int, nodes)
	for _, v := range nodeOf {
		sizes[v]++
	}
	for v, size := range sizes {
		if size == 0 {
			return nil, fmt.Errorf("schedule: node %d has no rank, but node %d has: number the nodes from 0 without gaps", v, nodes-1)
		}
	}
	return sizes, nil
}

// WorldSize returns the number of ranks.
func (l *Layout) WorldSize() int { return len(l.nodeOf) }

// NodeCount returns the number of nodes.
func (l *Layout) NodeCount() int { return len(l.Nodes) }

// LocalSize returns the number of ranks on a node.
func (l *Layout) LocalSize(node int) int { return len(l.Nodes[node]) }

// NodeOf returns the node of a rank, or -1 if there is no such rank.
func (l *Layout) NodeOf(rank int) int {
	if uint(rank) >= uint(len(l.nodeOf)) {
		return -1
	}
	return l.nodeOf[rank]
}

// LocalRank returns a rank's index among the ranks of its node, or -1 if there
// is no such rank.
func (l *Layout) LocalRank(rank int) int {
	if uint(rank) >= uint(len(l.localOf)) {
		return -1
	}
	return l.localOf[rank]
}

// Shards returns into how many shards an item is cut at most: the number of
// ranks of the largest node.
func (l *Layout) Shards() int { return l.shards }

// Owner returns the rank that reduces and carries a shard on a node. On nodes
// with fewer ranks than shards a rank owns several.
func (l *Layout) Owner(node, shard int) int {
	ranks := l.Nodes[node]
	return ranks[shard%len(ranks)]
}
