// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"errors"
	"fmt"
	"slices"
)

// Report is what a verified plan costs.
type Report struct {
	Items    int64 // chunks of all flows
	Messages int64 // between nodes
	Depth    int   // edges from the root to the furthest node of the deepest tree
	Hops     int   // messages that one item needs one after the other, measured
	// Tx and Rx are the bytes that each node sends to and receives from others.
	Tx, Rx []int64
}

// MaxTx returns the bytes that the busiest sender sends.
func (r *Report) MaxTx() int64 { return slices.Max(r.Tx) }

// MaxRx returns the bytes that the busiest receiver receives.
func (r *Report) MaxRx() int64 { return slices.Max(r.Rx) }

// Verify runs a plan on all nodes at once, with sets of ranks in place of
// numbers, and returns its costs. Each node has a ring of slots: item q starts
// when item q-slots is complete on that node, and may be sent to a node only
// once it has started there. Verify returns an error that names the node and
// the item, if
//
//   - a rank's contribution is missing from an output or is in it twice,
//   - a byte that a rank must get is never written or is written twice, or a
//     byte is written that it must not get,
//   - nodes disagree on what an item is, how it is cut, or who sends it, or
//   - nodes wait for each other for ever.
//
// One order of events is enough: what a node may do stays allowed until it does
// it, so every order ends in the same state. Time and memory grow with
// nodes x items x world size.
func Verify(l *Layout, p *Plan, chunk int64, slots int) (Report, error) {
	return verify(l, p, newModel(l, p, chunk), slots, nil)
}

// model is what the simulator asks about the plan. Tests replace single
// functions to break a plan and see that it is found out.
type model struct {
	items    func(node int) []Item                       // in the order of node
	flow     func(i int) Flow                            // flow i
	parent   func(f Flow, v int) int                     // of node v, -1 at the root
	children func(f Flow, v int) ([2]int, int)           // of node v
	cut      func(v int, it Item, s int) (lo, hi int64)  // shard s as node v cuts it
	inputs   func(v int, f Flow, rank int) (ranks []int) // what node v itself puts into bytes of rank's block
}

// newModel returns the model of the plan as it is.
func newModel(l *Layout, p *Plan, chunk int64) model {
	var items []Item
	for c := p.Items(chunk); ; {
		it, ok := c.Next()
		if !ok {
			break
		}
		items = append(items, it)
	}
	return model{
		items:    func(int) []Item { return items },
		flow:     p.Flow,
		parent:   func(f Flow, v int) int { return f.Tree.Parent(v) },
		children: func(f Flow, v int) ([2]int, int) { return f.Tree.Children(v) },
		cut: func(_ int, it Item, s int) (lo, hi int64) {
			return Shard(it.Bytes(), p.elem, l.Shards(), s)
		},
		inputs: func(v int, f Flow, rank int) []int { return inputs(l, p, v, f, rank) },
	}
}

// inputs returns whose contributions node v holds before it hears from others:
// all its ranks' if the flow goes up, else those of the tree root's source.
func inputs(l *Layout, p *Plan, v int, f Flow, rank int) []int {
	switch {
	case f.Up:
		return l.Nodes[v]
	case v != f.Tree.Root():
		return nil
	case p.Collective == Broadcast:
		rank = p.Root
	}
	if l.NodeOf(rank) != v {
		return nil // a tree with the wrong root: its output will lack the source
	}
	return []int{rank}
}

// verify is Verify with a model and, if pick is not nil, with a random order of
// events: pick(n) chooses one of n.
func verify(l *Layout, p *Plan, m model, slots int, pick func(n int) int) (Report, error) {
	if err := checkArguments(l, p, slots); err != nil {
		return Report{}, err
	}
	s := newSimulation(l, p, m, slots, pick)
	if err := s.run(); err != nil {
		return Report{}, err
	}
	if err := s.checkOutputs(); err != nil {
		return Report{}, err
	}
	for i := range p.Flows() {
		s.report.Depth = max(s.report.Depth, m.flow(i).Tree.Depth())
	}
	return s.report, nil
}

func checkArguments(l *Layout, p *Plan, slots int) error {
	switch {
	case slots < 1:
		return fmt.Errorf("schedule: %d slots: at least one is needed", slots)
	case p.layout != l:
		return errors.New("schedule: the plan was made for another layout")
	case p.Collective.rooted() && l.NodeOf(p.Root) < 0:
		return fmt.Errorf("schedule: root rank %d: ranks are 0 to %d", p.Root, l.WorldSize()-1)
	}
	return nil
}
