// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"slices"
)

// send queues a message; it waits at the receiver's door until it is granted.
func (s *simulation) send(from, to, seq int, slot *slotState, shard int, down bool) error {
	if uint(to) >= uint(len(s.nodes)) {
		return fmt.Errorf("schedule: node %d sends item %d to node %d, which does not exist", from, seq, to)
	}
	sh := &slot.shards[shard]
	sh.unsent++
	m := message{from: from, to: to, seq: seq, shard: shard, item: slot.item, down: down, pieces: sh.pieces, hops: sh.hops + 1}
	if slot.flow.Pair { // the sender goes on adding to its own
		m.pieces = clonePieces(sh.pieces)
	}
	if seq < s.nodes[to].started {
		s.ready = append(s.ready, m)
	} else {
		s.nodes[to].blocked = append(s.nodes[to].blocked, m)
	}
	return nil
}

// clonePieces returns pieces whose sets are their own.
func clonePieces(pieces []piece) []piece {
	clones := slices.Clone(pieces)
	for i := range clones {
		clones[i].set = slices.Clone(clones[i].set)
	}
	return clones
}

// deliver hands a granted message over: the receiver takes it in, and the
// sender may reuse its memory.
func (s *simulation) deliver(m message) error {
	slot, sh, err := s.expected(m)
	if err != nil {
		return err
	}
	s.count(m)
	sh.hops = max(sh.hops, m.hops)
	s.report.Hops = max(s.report.Hops, m.hops)
	if m.down {
		for i := range sh.pieces {
			sh.pieces[i].set = m.pieces[i].set
		}
		err = s.result(m.to, m.seq, slot, m.shard)
	} else {
		err = s.reduce(m, slot, sh)
	}
	if err != nil {
		return err
	}
	sender := &s.nodes[m.from]
	from := &sender.ring[m.seq%len(sender.ring)]
	from.shards[m.shard].unsent--
	s.settle(m.from, from, &from.shards[m.shard])
	return nil
}

// expected finds where a message belongs, if the receiver wants it at all.
func (s *simulation) expected(m message) (*slotState, *shardState, error) {
	node := &s.nodes[m.to]
	slot := &node.ring[m.seq%len(node.ring)]
	if have := node.items[m.seq]; have != m.item {
		return nil, nil, fmt.Errorf("schedule: item %d is %v on node %d, but %v on node %d", m.seq, m.item, m.from, have, m.to)
	}
	if !slot.busy || slot.item != m.item {
		return nil, nil, fmt.Errorf("schedule: node %d sends item %d to node %d, which has finished it", m.from, m.seq, m.to)
	}
	if m.shard >= len(slot.shards) || !slot.take(m) {
		return nil, nil, fmt.Errorf("schedule: node %d sends shard %d of item %d (%v, down: %t) to node %d, which does not expect it",
			m.from, m.shard, m.seq, m.item, m.down, m.to)
	}
	sh := &slot.shards[m.shard]
	for i := range max(len(sh.pieces), len(m.pieces)) {
		if i >= len(sh.pieces) || i >= len(m.pieces) || sh.pieces[i].lo != m.pieces[i].lo || sh.pieces[i].hi != m.pieces[i].hi {
			return nil, nil, fmt.Errorf("schedule: nodes %d and %d cut shard %d of item %d (%v) differently", m.from, m.to, m.shard, m.seq, m.item)
		}
	}
	return slot, sh, nil
}

// take marks a message as received; false if its sender has no reason to send.
func (slot *slotState) take(m message) bool {
	sh := &slot.shards[m.shard]
	if m.down {
		return slot.flow.Down && m.from == slot.parent && sh.waiting == 0 && !sh.final
	}
	for i, child := range slot.children[:slot.count] {
		if slot.flow.Up && child == m.from && !sh.got[i] {
			sh.got[i] = true
			return true
		}
	}
	return false
}

// reduce adds a child's partial sum.
func (s *simulation) reduce(m message, slot *slotState, sh *shardState) error {
	for i := range sh.pieces {
		if m.pieces[i].set == nil {
			continue
		}
		if sh.pieces[i].set == nil {
			sh.pieces[i].set = newRankSet(s.layout.WorldSize())
		}
		if twice := sh.pieces[i].set.merge(m.pieces[i].set); twice >= 0 {
			return fmt.Errorf("schedule: rank %d is in the sum of item %d (%v) twice: node %d has it, and node %d sends it",
				twice, m.seq, m.item, m.to, m.from)
		}
	}
	if sh.waiting--; sh.waiting > 0 {
		return nil
	}
	return s.summed(m.to, m.seq, slot, m.shard)
}

// count adds a message to the report.
func (s *simulation) count(m message) {
	s.report.Messages++
	for _, p := range m.pieces {
		s.report.Tx[m.from] += p.hi - p.lo
		s.report.Rx[m.to] += p.hi - p.lo
	}
}

// deadlock returns an error naming the first item that some node has not
// finished although nothing can happen any more, or nil.
func (s *simulation) deadlock() error {
	node, seq := -1, 0
	for v := range s.nodes {
		if q, ok := s.nodes[v].unfinished(); ok && (node < 0 || q < seq) {
			node, seq = v, q
		}
	}
	if node < 0 {
		return nil
	}
	state := &s.nodes[node]
	slot := &state.ring[seq%len(state.ring)]
	return fmt.Errorf("schedule: deadlock with %d slots: node %d never finishes item %d (%v): %s",
		len(state.ring), node, seq, state.items[seq], slot.why())
}

// unfinished returns the node's first item that is not complete.
func (n *nodeState) unfinished() (seq int, ok bool) {
	for q := max(0, n.started-len(n.ring)); q < n.started; q++ {
		if n.ring[q%len(n.ring)].busy {
			return q, true
		}
	}
	return n.started, n.started < len(n.items)
}

// why says what a slot's first incomplete shard waits for.
func (slot *slotState) why() string {
	for i := range slot.shards {
		sh := &slot.shards[i]
		switch {
		case sh.waiting > 0:
			for c, child := range slot.children[:slot.count] {
				if !sh.got[c] {
					return fmt.Sprintf("shard %d waits for child %d", i, child)
				}
			}
		case sh.unsent > 0:
			return fmt.Sprintf("shard %d waits for a grant", i)
		case !sh.final:
			return fmt.Sprintf("shard %d waits for parent %d", i, slot.parent)
		}
	}
	return "it never started"
}
