// SPDX-License-Identifier: Apache-2.0

// Package schedule says which bytes travel between which nodes, and in what
// order. It is pure: no I/O, no clock, no goroutine, no state beyond its values.
//
//   - A [Tree] spans all nodes; every node computes its own neighbours in O(1)
//     or O(log n), so nothing has to be agreed on or stored.
//   - A [Plan] is one collective on one [Layout]: a few flows, each a tree, a
//     range of bytes, and the directions in which it is travelled (up: reduce,
//     down: broadcast).
//   - Flows are cut into [Item] values of at most one chunk. All nodes walk the
//     items in the same order; this is what makes any number of slots safe.
//   - Items are cut into shards ([Shard]), one for each local rank.
//   - [Verify] runs a plan symbolically over all nodes.
//
// Plan, Flow, Tree, Cursor, Item and Segment are small values. Making and
// walking them allocates nothing, because every collective call does it.
//
// Read on in tree.go, layout.go, plan.go, item.go, shard.go, verify.go.
// docs/algorithms.md has the costs in closed form.
package schedule

import "strconv"

// Collective is an operation that all ranks call together.
type Collective uint8

// The collectives. Their numbers are part of the fingerprint that ranks compare
// and must not change.
const (
	AllReduce     Collective = iota // every rank gets the reduction of all buffers
	Reduce                          // the root rank gets it
	Broadcast                       // every rank gets the root's buffer
	ReduceScatter                   // rank r gets block r of the reduction
	AllGather                       // every rank gets all ranks' blocks
	Barrier                         // nobody returns before everybody called
)

// String returns the name of the public method.
func (c Collective) String() string {
	switch c {
	case AllReduce:
		return "AllReduce"
	case Reduce:
		return "Reduce"
	case Broadcast:
		return "Broadcast"
	case ReduceScatter:
		return "ReduceScatter"
	case AllGather:
		return "AllGather"
	case Barrier:
		return "Barrier"
	}
	return "Collective(" + strconv.Itoa(int(c)) + ")"
}

// up reports whether partial sums travel to the tree root.
func (c Collective) up() bool { return c != Broadcast && c != AllGather }

// down reports whether results travel from the tree root to all nodes.
func (c Collective) down() bool { return c != Reduce && c != ReduceScatter }

// rooted reports whether one rank is special.
func (c Collective) rooted() bool { return c == Reduce || c == Broadcast }

// blocked reports whether the data consists of one block for each rank.
func (c Collective) blocked() bool { return c == ReduceScatter || c == AllGather }
