// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"cmp"
	"fmt"
	"slices"
)

// write notes that a node's ranks get these bytes, after a look at what is in
// them.
func (s *simulation) write(v int, it Item, pieces []piece) error {
	node := &s.nodes[v]
	node.results++
	for _, p := range pieces {
		if err := s.checkContributions(v, it, p); err != nil {
			return err
		}
		if p.hi > p.lo {
			node.written = append(node.written, piece{lo: p.lo, hi: p.hi})
		}
	}
	return nil
}

// checkContributions compares a result with what it must hold.
func (s *simulation) checkContributions(v int, it Item, p piece) error {
	world := s.layout.WorldSize()
	first, last := 0, world-1
	switch s.plan.Collective {
	case Broadcast:
		first, last = s.plan.Root, s.plan.Root
	case AllGather:
		first = int(p.lo / s.plan.Block)
		last = first
	}
	count := 0
	if p.set != nil {
		count = p.set.count()
	}
	for r := first; r <= last; r++ {
		if p.set == nil || !p.set.has(r) {
			return fmt.Errorf("schedule: the result of %v at node %d lacks rank %d (%d of %d contributions there)", it, v, r, count, last-first+1)
		}
	}
	if count != last-first+1 {
		return fmt.Errorf("schedule: the result of %v at node %d holds %d contributions, but only %d belong there", it, v, count, last-first+1)
	}
	return nil
}

// checkOutputs compares what the nodes wrote with what their ranks must get:
// every byte exactly once, and no other byte.
func (s *simulation) checkOutputs() error {
	for v := range s.nodes {
		node := &s.nodes[v]
		if s.plan.Collective == Barrier && node.results != 1 {
			return fmt.Errorf("schedule: node %d passes the barrier %d times", v, node.results)
		}
		slices.SortFunc(node.written, func(a, b piece) int { return cmp.Compare(a.lo, b.lo) })
		if err := tile(s.wanted(v), node.written); err != nil {
			return fmt.Errorf("schedule: %s output of node %d: %w", s.plan.Collective, v, err)
		}
	}
	return nil
}

// wanted returns the ranges that a node's ranks must get, ascending.
func (s *simulation) wanted(v int) []piece {
	p := s.plan
	switch p.Collective {
	case ReduceScatter:
		var blocks []piece
		for _, r := range s.layout.Nodes[v] {
			blocks = append(blocks, piece{lo: int64(r) * p.Block, hi: int64(r+1) * p.Block})
		}
		slices.SortFunc(blocks, func(a, b piece) int { return cmp.Compare(a.lo, b.lo) })
		return blocks
	case AllGather:
		return []piece{{hi: int64(s.layout.WorldSize()) * p.Block}}
	case Reduce:
		if v != s.layout.NodeOf(p.Root) {
			return nil
		}
	}
	return []piece{{hi: p.bytes}}
}

// tile checks that the written ranges, ascending, cover the wanted ones exactly.
func tile(wanted, written []piece) error {
	i := 0
	for _, want := range wanted {
		at := want.lo
		for ; at < want.hi; i++ {
			switch {
			case i == len(written) || written[i].lo > at:
				return fmt.Errorf("byte %d is never written", at)
			case written[i].lo < at:
				return fmt.Errorf("byte %d is written twice or must not be", written[i].lo)
			}
			at = written[i].hi
		}
		if at > want.hi {
			return fmt.Errorf("bytes %d to %d must not be written", want.hi, at-1)
		}
	}
	if i < len(written) {
		return fmt.Errorf("byte %d is written twice or must not be", written[i].lo)
	}
	return nil
}
