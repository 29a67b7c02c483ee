// SPDX-License-Identifier: Apache-2.0

package mem

import "github.com/hfreduce/hfreduce/hfreduce/internal/transport"

// queue is a ring of events, first in, first out. It grows when it is full and never shrinks.
type queue struct {
	ring []transport.Event
	head int
	n    int
}

func (q *queue) push(e transport.Event) {
	if q.n == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.n)%len(q.ring)] = e
	q.n++
}

func (q *queue) grow() {
	ring := make([]transport.Event, max(8, 2*len(q.ring)))
	n := copy(ring, q.ring[q.head:])
	copy(ring[n:], q.ring[:q.head])
	q.ring, q.head = ring, 0
}

// pop moves the oldest events to ev, as many as fit, and returns their number.
func (q *queue) pop(ev []transport.Event) int {
	n := min(len(ev), q.n)
	for i := range n {
		ev[i] = q.ring[q.head]
		q.head = (q.head + 1) % len(q.ring)
	}
	q.n -= n
	return n
}
