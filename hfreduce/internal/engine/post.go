// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// granted returns the set of neighbours that have a free slot for the item.
func (e *Engine) granted(it *item, shard int) uint8 {
	set := uint8(0)
	for c := range Neighbour(it.children) {
		if it.flow.Down && before(it.seq, e.links[e.peer(it.child[c], shard)].Limit()) {
			set |= 1 << c
		}
	}
	if it.flow.Up && it.parent >= 0 && before(it.seq, e.links[e.peer(it.parent, shard)].Limit()) {
		set |= 1 << Parent
	}
	return set
}

// post sends the own shard's partial sum or result to a neighbour.
func (e *Engine) post(it *item, shard int, to Neighbour) error {
	lo, hi := e.bounds(it, shard)
	payload, stage := e.resultOf, StageDown
	if to == Parent {
		payload, stage = e.partialOf, StageUp
	}
	e.begins(stage)
	landing := e.mem.landing(it.slot, shard, e.sideAt(it, to))
	return e.send(e.peer(it.neighbour(to), shard), landing, it.seq, payload(it, shard, lo, hi), *e.sum(it, shard))
}

// sends reports whether the link to a rank sends from the memory.
func (e *Engine) sends(rank int, b []byte) bool {
	s := e.selective[rank]
	return s == nil || s.Sends(b)
}

// send posts a message to a rank, with the sum of its payload or, without checksums, 0.
func (e *Engine) send(rank int, landing, seq uint32, payload []byte, sum uint32) error {
	err := e.links[rank].Post(transport.Message{Landing: landing, Seq: seq, Tag: e.op.Tag, Sum: sum, Payload: payload})
	if err != nil {
		return &LinkError{Rank: rank, Err: err}
	}
	e.carriers[rank].SentBytes.Add(uint64(len(payload)))
	e.carriers[rank].SentMessages.Add(1)
	return nil
}

// othersEvery is how many looks of an exchange at its partner's link there are for one at all links.
const othersEvery = 16

// poll moves the links forward and takes in what they deliver. In an exchange, whose looks are many and short, it mostly
// polls the one link that the exchange waits for, once all that it has posted is gone.
func (e *Engine) poll(all bool) (moved bool, err error) {
	if partner := e.partner(); partner >= 0 && e.short.unsent == 0 && !all {
		if e.looks++; e.looks%othersEvery != 0 {
			return e.pollLink(partner, e.links[partner])
		}
	}
	for _, l := range e.open {
		m, err := e.pollLink(l.rank, l.Link)
		if moved = moved || m; err != nil {
			return moved, err
		}
	}
	return moved, nil
}

// pollLink polls the link to a rank until it has no more events.
func (e *Engine) pollLink(rank int, l transport.Link) (moved bool, err error) {
	for {
		n, err := l.Poll(e.events[:])
		for i := range e.events[:n] {
			moved = true
			if err := e.deliver(rank, &e.events[i]); err != nil {
				return moved, err
			}
		}
		if err != nil {
			return moved, &LinkError{Rank: rank, Err: err}
		}
		if n < len(e.events) {
			return moved, nil
		}
	}
}

// deliver notes one completion.
func (e *Engine) deliver(peer int, ev *transport.Event) error {
	if ev.Kind == transport.Sent {
		return e.sent(peer, ev)
	}
	e.carriers[peer].ReceivedBytes.Add(uint64(ev.Bytes))
	e.carriers[peer].ReceivedMessages.Add(1)
	a := arrival{seq: ev.Seq, tag: ev.Tag, sum: ev.Sum, bytes: ev.Bytes, from: peer, fresh: true}
	if ev.Landing >= e.exchanges {
		in := &e.inbound[ev.Landing-e.exchanges]
		if in.fresh || !e.short.open && !before(ev.Seq, e.head) && before(ev.Seq, e.next) {
			return &MismatchError{Rank: peer} // it exchanges where this rank does not
		}
		*in = a
		return nil
	}
	slot, _, _ := e.mem.split(ev.Landing)
	if before(ev.Seq, e.head) || !before(ev.Seq, e.limit) || int(ev.Seq%uint32(e.mem.slots)) != slot {
		return fmt.Errorf("engine: protocol error: rank %d sent item %d into slot %d, expected were items %d to %d", peer, ev.Seq, slot, e.head, e.limit-1)
	}
	if e.short.open && ev.Seq == e.short.seq {
		return &MismatchError{Rank: peer}
	}
	e.arrivals[ev.Landing] = a
	return nil
}

// sent notes that a post has completed. The landing area is the receiver's: what lands there as the parent's message
// went to a child.
func (e *Engine) sent(peer int, ev *transport.Event) error {
	if ev.Landing >= e.exchanges {
		e.short.unsent--
		return nil
	}
	slot, shard, side := e.mem.split(ev.Landing)
	it := &e.ring[slot]
	if it.seq != ev.Seq {
		return fmt.Errorf("engine: protocol error: completion of item %d to rank %d, slot %d holds item %d", ev.Seq, peer, slot, it.seq)
	}
	to := Parent
	if side == Parent {
		to = Child0
		if it.children > 1 && e.peer(it.child[1], shard) == peer {
			to = Child1
		}
	}
	own := &it.own[(shard-e.local)/e.localSize]
	own.Sent(to)
	return nil
}

// receive hands the messages that the own shard waits for to its state machine.
func (e *Engine) receive(it *item, shard int, s *Shard) error {
	for n := Child0; n <= Parent; n++ {
		if !s.Expects(n) {
			continue
		}
		a := &e.arrivals[e.mem.landing(it.slot, shard, n)]
		if !a.fresh || a.seq != it.seq {
			continue
		}
		a.fresh = false
		if want := e.peer(it.neighbour(n), shard); a.from != want {
			return e.unexpected(a, it.seq, want)
		}
		lo, hi := e.bounds(it, shard)
		if a.tag != e.op.Tag || int64(a.bytes) != hi-lo {
			return &MismatchError{Rank: a.from}
		}
		if n == Parent {
			e.begins(StageDown)
			if err := e.checkParent(it, shard, a); err != nil {
				return err
			}
		}
		s.Arrived(n)
	}
	return nil
}

// unexpected is the error of a message that is not the one this rank waits for.
func (e *Engine) unexpected(a *arrival, seq uint32, rank int) error {
	return fmt.Errorf("engine: protocol error: rank %d sent item %d where item %d from rank %d should come", a.from, a.seq, seq, rank)
}
