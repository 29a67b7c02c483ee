// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"math/rand/v2"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// judge decides what happens to a message.
func (l *link) judge(m transport.Message) held {
	l.posted++
	if l.silent {
		return held{message: m, action: Drop}
	}
	h := held{message: m}
	var delay time.Duration
	for _, i := range l.out {
		r := l.rule(i)
		if !l.meant(i, r, &m, l.self, l.Peer(), l.posted) {
			continue
		}
		switch r.action {
		case Delay:
			delay += r.hold
		case Partition: // from now on: blocked
		case HalfClose:
			l.silent, h.action = true, Drop
		default:
			if h.action == "" {
				h.action, h.rule = r.action, i
			}
		}
		l.report(i, r, &m, l.self, l.Peer(), l.posted)
	}
	if delay > 0 {
		h.due = time.Now().Add(delay)
	}
	if until, blocked := l.blocked(); blocked {
		h.forever = until.IsZero()
		if h.due.Before(until) {
			h.due = until
		}
	}
	return h
}

// meant reports whether a rule hits a message, and counts it if so.
func (l *link) meant(i int, r *rule, m *transport.Message, from, to int, number uint64) bool {
	if number <= r.after || !r.landing.has(uint64(m.Landing)) || !r.seq.has(uint64(m.Seq)) {
		return false
	}
	if r.action == Partition {
		return l.pair.begin(i)
	}
	id := l.identity(m, from, to)
	return l.of.cfg.Plan.chance(i, id[:]...) && l.pair.take(i, r.times)
}

// identity is what names a message whatever the timing.
func (l *link) identity(m *transport.Message, from, to int) [5]uint64 {
	return [5]uint64{uint64(from), uint64(to), l.number, uint64(m.Landing), uint64(m.Seq)}
}

func (l *link) report(i int, r *rule, m *transport.Message, from, to int, number uint64) {
	if hit := l.of.cfg.Hit; hit != nil {
		hit(Hit{Rule: r.String(), Action: r.action, From: from, To: to, Landing: m.Landing, Seq: m.Seq, Message: number})
	}
}

// blocked reports whether a partition holds what is sent now, and until when: zero for ever.
func (l *link) blocked() (until time.Time, blocked bool) {
	if !l.border {
		return until, false
	}
	now := time.Now()
	for _, i := range l.out {
		r := l.rule(i)
		if r.action != Partition {
			continue
		}
		began := l.pair.since(i)
		if began.IsZero() {
			continue
		}
		if r.heal == 0 {
			return time.Time{}, true
		}
		if end := began.Add(r.heal); now.Before(end) && until.Before(end) {
			until, blocked = end, true
		}
	}
	return until, blocked
}

// arrived looks at an event of the inner link.
func (l *link) arrived(ev *transport.Event) {
	if ev.Kind == transport.Sent {
		l.outstanding--
		return
	}
	l.received++
	area := l.landings[ev.Landing]
	if r := &l.elsewhere[ev.Landing]; r.area != nil && r.seq == ev.Seq {
		area, r.area = r.area, nil
	}
	m := transport.Message{Landing: ev.Landing, Seq: ev.Seq, Payload: area[:ev.Bytes]}
	for _, i := range l.in {
		r := l.rule(i)
		if ev.Bytes > 0 && l.meant(i, r, &m, l.Peer(), l.self, l.received) {
			id := l.identity(&m, l.Peer(), l.self)
			flip(m.Payload, r.amount, l.of.cfg.Plan.hash(i, id[:]...))
			l.report(i, r, &m, l.Peer(), l.self, l.received)
		}
	}
}

// flip flips so many different bits of b, or all if there are fewer, chosen by the seed (Floyd's algorithm).
func flip(b []byte, bits int, seed uint64) {
	total := uint64(len(b)) * 8
	bits = int(min(uint64(bits), total))
	random, chosen := rand.New(rand.NewPCG(seed, 0)), make(map[uint64]bool, bits)
	for j := total - uint64(bits); j < total; j++ {
		at := random.Uint64N(j + 1)
		if chosen[at] {
			at = j
		}
		chosen[at] = true
		b[at/8] ^= 1 << (at % 8)
	}
}
