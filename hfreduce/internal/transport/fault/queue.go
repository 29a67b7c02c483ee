// SPDX-License-Identifier: Apache-2.0

package fault

// queue is a ring of fixed size, first in, first out. What leaves it is forgotten.
type queue[T any] struct {
	ring []T
	head int
	n    int
}

func newQueue[T any](size int) queue[T] { return queue[T]{ring: make([]T, size)} }

func (q *queue[T]) push(x T) {
	q.ring[(q.head+q.n)%len(q.ring)] = x
	q.n++
}

// first returns the oldest, nil if there is none. It is good until the next pop.
func (q *queue[T]) first() *T {
	if q.n == 0 {
		return nil
	}
	return &q.ring[q.head]
}

// last returns the newest, nil if there is none.
func (q *queue[T]) last() *T {
	if q.n == 0 {
		return nil
	}
	return &q.ring[(q.head+q.n-1)%len(q.ring)]
}

func (q *queue[T]) pop() {
	var none T
	q.ring[q.head] = none
	q.head = (q.head + 1) % len(q.ring)
	q.n--
}

func (q *queue[T]) clear() {
	clear(q.ring)
	q.head, q.n = 0, 0
}
