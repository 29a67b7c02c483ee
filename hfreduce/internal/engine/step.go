// SPDX-License-Identifier: Apache-2.0

package engine

// This file is pure: what has happened to one shard goes in, what to do next comes out. No memory, socket or clock.
//
// A shard of an item, on the node that carries it, passes these states (up: the flow reduces; down: it broadcasts):
//
//	waiting for inputs and children ──reduce──▶ partial ──post up──▶ waiting for the parent
//	                                   │ (tree root)                       │
//	                                   ▼                                   ▼
//	                                 result ◀──────────────────────────────┘
//	                                   │ post down to each child, publish to the node
//	                                   ▼
//	                                complete, once every post has completed
//
// In a pair of nodes each posts its partial sum to the other one, and both combine the two.
//
// A flow that only goes up ends, below the tree root, when the partial sum has been sent; one that only goes down
// starts with the result at the tree root.

// Action is what the driver has to do next for a shard.
type Action uint8

// The actions. After an action that cannot complete at once the driver reports an event when it has.
const (
	Wait      Action = iota // nothing to do until the next event
	Reduce                  // add the inputs and the children's partial sums
	PostUp                  // post the partial sum to the parent; then Sent(Parent)
	PostDown0               // post the result to child 0; then Sent(Child0)
	PostDown1               // post the result to child 1; then Sent(Child1)
	Combine                 // add the partial sums of a pair
	Publish                 // tell the node's ranks that the result is there
)

// Neighbour is a position in a flow's tree as seen from one node.
type Neighbour uint8

// The neighbours. They double as bits of a set: 1<<Child0 and so on.
const (
	Child0 Neighbour = iota
	Child1
	Parent
)

// Shard is the state of one shard of one item on the node that carries it.
type Shard struct {
	up, down bool
	root     bool
	pair     bool
	children int

	inputs    bool  // the node's ranks have staged what they give
	arrived   uint8 // set of neighbours whose message is here
	posted    uint8 // set of neighbours that something was posted to
	sent      uint8 // set of neighbours whose post completed
	reduced   bool
	combined  bool
	published bool
}

// NewShard returns the state of a shard of a flow that goes up, down or both, at a node with the given number of
// children in the flow's tree; root says whether the node is the tree's root.
func NewShard(up, down, root bool, children int) Shard {
	return Shard{up: up, down: down, root: root, children: children}
}

// NewPairShard returns the state of a shard that two nodes add. The other one is Child0, from which a partial sum comes,
// and Parent, to which one is posted.
func NewPairShard() Shard { return Shard{up: true, pair: true, children: 1} }

// InputsReady reports that every rank of the node has staged its input (or, at the root of a flow that only goes down,
// the data).
func (s *Shard) InputsReady() { s.inputs = true }

// Arrived reports a message: a partial sum from a child or the result from the parent.
func (s *Shard) Arrived(n Neighbour) { s.arrived |= 1 << n }

// Sent reports that the post to a neighbour has completed.
func (s *Shard) Sent(n Neighbour) { s.sent |= 1 << n }

// Expects reports whether a message from n is part of this shard's flow.
func (s *Shard) Expects(n Neighbour) bool {
	if n == Parent {
		return s.down && !s.root
	}
	return s.up && int(n) < s.children
}

// NeedsInputs reports whether the shard still waits for the node's ranks.
func (s *Shard) NeedsInputs() bool { return !s.inputs && (s.up || s.root) }

// hasResult reports whether this node holds the flow's final value.
func (s *Shard) hasResult() bool {
	switch {
	case s.up && s.root:
		return s.reduced
	case s.root:
		return s.inputs
	default:
		return s.arrived&(1<<Parent) != 0
	}
}

// children's bits.
func (s *Shard) childSet() uint8 { return uint8(1)<<s.children - 1 }

// Next returns the next action and notes that it is being taken. granted is the set of neighbours that may be posted to
// now: actions towards others are put off until a later call.
func (s *Shard) Next(granted uint8) Action {
	if s.pair {
		return s.nextOfPair(granted)
	}
	if s.up && !s.reduced {
		if !s.inputs || s.arrived&s.childSet() != s.childSet() {
			return Wait
		}
		s.reduced = true
		return Reduce
	}
	if s.up && !s.root && s.posted&(1<<Parent) == 0 {
		if granted&(1<<Parent) == 0 {
			return Wait
		}
		s.posted |= 1 << Parent
		return PostUp
	}
	if !s.hasResult() {
		return Wait
	}
	for c := Child0; s.down && int(c) < s.children; c++ {
		if s.posted&(1<<c) == 0 && granted&(1<<c) != 0 {
			s.posted |= 1 << c
			return PostDown0 + Action(c)
		}
	}
	if !s.published {
		s.published = true
		return Publish
	}
	return Wait
}

// nextOfPair is Next in a pair. The partial sum is overwritten by the result, so it must have left before.
func (s *Shard) nextOfPair(granted uint8) Action {
	const other = 1 << Parent
	switch {
	case !s.inputs:
	case !s.reduced:
		s.reduced = true
		return Reduce
	case s.posted == 0:
		if granted&other != 0 {
			s.posted = other
			return PostUp
		}
	case s.arrived&(1<<Child0) == 0 || s.sent == 0:
	case !s.combined:
		s.combined = true
		return Combine
	case !s.published:
		s.published = true
		return Publish
	}
	return Wait
}

// Complete reports whether this node has nothing more to do for the shard.
func (s *Shard) Complete() bool {
	if s.posted != s.sent {
		return false
	}
	if s.pair {
		return s.published
	}
	if s.up && !s.root && s.posted&(1<<Parent) == 0 {
		return false
	}
	if s.up && !s.down && !s.root {
		return true
	}
	return s.published && (!s.down || s.posted&s.childSet() == s.childSet())
}
