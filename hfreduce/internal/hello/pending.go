// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// pending holds connections that nobody vouches for and bounds their number: one more than limit closes another one, so
// that a flood cannot keep a fresh connection out. Whom it hits is chosen so that a rank has time to answer:
//
//   - those that have not said the job's name go first, and only then those that have and owe the proof;
//   - among these the address with the most connections pays, so a flood displaces itself;
//   - of that address the oldest goes, but none that has said something which its goroutine is still to read;
//   - nobody goes within its grace. Until somebody may, the next connections wait in the kernel's queue.
type pending struct {
	mu     sync.Mutex
	limit  int
	grace  time.Duration
	closed bool
	room   chan struct{} // told, capacity 1, when a connection leaves
	crowds [2]crowd      // by whether they have said the job's name
}

// crowd is the connections of one standing, oldest first.
type crowd struct {
	order list.List // of *ticket
	of    map[netip.Addr]int
	sizes []int // how many addresses have so many connections
	most  int   // the largest of them
}

// ticket is a connection's place in pending. pending.mu guards it.
type ticket struct {
	conn    net.Conn
	from    netip.Addr
	since   time.Time
	knows   bool // has said the job's name
	e       *list.Element
	evicted bool
}

func newPending(limit int, grace time.Duration) *pending {
	p := &pending{limit: limit, grace: grace, room: make(chan struct{}, 1)}
	for i := range p.crowds {
		p.crowds[i] = crowd{of: map[netip.Addr]int{}, sizes: make([]int, limit+2)}
	}
	return p
}

// add takes conn in, waiting for room if it must. It reports false, and closes conn, when pending is closed.
func (p *pending) add(conn net.Conn) (*ticket, bool) {
	for {
		t, wait := p.try(conn)
		if wait <= 0 {
			return t, t != nil
		}
		select {
		case <-p.room:
		case <-time.After(wait):
		}
	}
}

// try is add, but returns how long to wait if there is no room. Without a ticket pending is closed.
func (p *pending) try(conn net.Conn) (*ticket, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		conn.Close()
		return nil, 0
	}
	if p.crowds[0].order.Len()+p.crowds[1].order.Len() >= p.limit {
		if wait := p.displace(); wait > 0 {
			return nil, wait
		}
	}
	t := &ticket{conn: conn, from: source(conn), since: time.Now()}
	p.crowd(t).enter(t)
	return t, 0
}

func (p *pending) crowd(t *ticket) *crowd {
	if t.knows {
		return &p.crowds[1]
	}
	return &p.crowds[0]
}

// promote notes that a connection has said the job's name.
func (p *pending) promote(t *ticket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.e == nil {
		return
	}
	p.crowd(t).leave(t)
	t.knows = true
	p.crowd(t).enter(t)
}

// remove takes a connection out again; it reports false if it was displaced.
func (p *pending) remove(t *ticket) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.e != nil {
		p.crowd(t).leave(t)
		p.tell()
	}
	return !t.evicted
}

func (p *pending) tell() {
	select {
	case p.room <- struct{}{}:
	default:
	}
}

// relieve closes one connection, if there is one that may go, to get its descriptor back.
func (p *pending) relieve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.displace()
}

// displace closes one connection, or returns how long it has to wait for that. With nobody there it does nothing.
func (p *pending) displace() (wait time.Duration) {
	for i := range p.crowds {
		t := p.crowds[i].victim()
		if t == nil {
			continue
		}
		if left := p.grace - time.Since(t.since); left > 0 {
			return left
		}
		p.crowds[i].leave(t)
		t.evicted = true
		t.conn.Close()
		return 0
	}
	return 0
}

// close closes all connections that are in, and those that come later.
func (p *pending) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.tell()
	for i := range p.crowds {
		for c := &p.crowds[i]; c.order.Len() > 0; {
			t := c.order.Front().Value.(*ticket)
			c.leave(t)
			t.conn.Close()
		}
	}
}

func (c *crowd) enter(t *ticket) {
	t.e = c.order.PushBack(t)
	c.resize(t.from, 1)
}

func (c *crowd) leave(t *ticket) {
	c.order.Remove(t.e)
	t.e = nil
	c.resize(t.from, -1)
}

// resize keeps the number of connections of each address, and the largest of these numbers.
func (c *crowd) resize(from netip.Addr, by int) {
	before := c.of[from]
	after := before + by
	c.of[from] = after
	if after == 0 {
		delete(c.of, from)
	}
	c.sizes[before]--
	c.sizes[after]++
	c.most = max(c.most, after)
	for c.most > 0 && c.sizes[c.most] <= 0 {
		c.most--
	}
}

// maxLooks bounds for how many connections a victim's choice asks the kernel.
const maxLooks = 32

// victim chooses who goes; nil if there is nobody.
func (c *crowd) victim() *ticket {
	var first *ticket
	looks := 0
	for e := c.order.Front(); e != nil && looks < maxLooks; e = e.Next() {
		t := e.Value.(*ticket)
		if c.of[t.from] < c.most {
			continue
		}
		if first == nil {
			first = t
		}
		if looks++; !unread(t.conn) {
			return t
		}
	}
	return first
}

// source is what counts as one origin: an address, or for IPv6 the network of one host.
func source(conn net.Conn) netip.Addr {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := tcp.AddrPort().Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// unread reports whether the kernel holds bytes of the connection.
func unread(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	var b [1]byte
	cerr := raw.Control(func(fd uintptr) { n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT) })
	return cerr == nil && err == nil && n > 0
}
