// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"container/list"
	"net"
	"sync"
)

// pending holds connections that nobody vouches for, oldest first, and bounds their number: one more than limit closes
// the oldest, so that a flood of silent connections cannot keep a fresh one out.
type pending struct {
	mu     sync.Mutex
	limit  int
	order  list.List // of net.Conn
	closed bool
}

// ticket is a connection's place in pending.
type ticket struct{ e *list.Element }

// add takes conn in. It reports false, and closes conn, when pending is closed.
func (p *pending) add(conn net.Conn) (ticket, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		conn.Close()
		return ticket{}, false
	}
	if p.order.Len() >= p.limit {
		oldest := p.order.Front()
		p.order.Remove(oldest).(net.Conn).Close()
	}
	return ticket{p.order.PushBack(conn)}, true
}

// remove takes a connection out again; it may have been evicted already.
func (p *pending) remove(t ticket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.order.Remove(t.e) // does nothing for an element that is not in the list
}

// close closes all connections that are in, and those that come later.
func (p *pending) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for e := p.order.Front(); e != nil; e = e.Next() {
		e.Value.(net.Conn).Close()
	}
	p.order.Init()
}
