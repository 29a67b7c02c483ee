// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// place is where a connection waits: whose it is, and for which link.
type place struct {
	rank int
	key  string
}

// parked is a connection that was opened by its dialer and that this rank has not asked for yet. A goroutine reads it,
// because the dialer may go away; nothing but its end can come.
type parked struct {
	conn net.Conn
	free chan struct{} // closed when the goroutine has let go of conn
	err  error         // then: why conn is of no use, nil if it is
}

// lot holds the parked connections, at most one for each place.
type lot struct {
	mu     sync.Mutex
	limit  int
	cars   map[place]*parked
	gates  int                     // connections that have not said which of those tried they are
	wanted map[place]chan struct{} // of Connects that wait; told when a connection arrives
	closed bool
}

func newLot(limit int) *lot {
	return &lot{limit: limit, cars: map[place]*parked{}, wanted: map[place]chan struct{}{}}
}

var errFull = errors.New("too many connections wait for their links here")

// put parks a connection. One that is there already is of an earlier attempt of the same dialer and is closed.
func (o *lot) put(at place, p *parked) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.cars[at]
	switch {
	case o.closed:
		return transport.ErrClosed
	case old == nil && len(o.cars) >= o.limit:
		return errFull
	case old != nil:
		old.conn.Close()
	}
	o.cars[at] = p
	select {
	case o.wanted[at] <- struct{}{}: // blocks if nobody wants it
	default:
	}
	return nil
}

// take removes the connection from its place; nil if there is none.
func (o *lot) take(at place) *parked {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.cars[at]
	delete(o.cars, at)
	return p
}

// leave removes p; it reports false if p was taken or replaced.
func (o *lot) leave(at place, p *parked) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cars[at] != p {
		return false
	}
	delete(o.cars, at)
	return true
}

// want returns a channel that tells of arrivals at a place, until unwant.
func (o *lot) want(at place) (<-chan struct{}, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wanted[at] != nil {
		return nil, fmt.Errorf("another Connect waits for it with the same key %q", at.key)
	}
	c := make(chan struct{}, 1)
	o.wanted[at] = c
	return c, nil
}

func (o *lot) unwant(at place) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.wanted, at)
}

func (o *lot) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed || len(o.cars)+o.gates >= o.limit
}

// gate counts a connection that comes, or that has come through.
func (o *lot) gate(by int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gates += by
}

// close closes what is parked and refuses what comes.
func (o *lot) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, p := range o.cars {
		p.conn.Close()
	}
}

// admit decides on a connection for the listener.
func (t *Transport) admit(h hello.Hello) error {
	switch {
	case h.Rank < 0 || h.Rank >= t.cfg.Rank:
		return fmt.Errorf("tcp: rank %d must not dial rank %d: the smaller rank does", h.Rank, t.cfg.Rank)
	case len(h.Token) > maxKey:
		return fmt.Errorf("tcp: the key of the link has %d bytes, at most %d are allowed", len(h.Token), maxKey)
	case t.lot.full():
		return fmt.Errorf("tcp: rank %d: %w", t.cfg.Rank, errFull)
	}
	return nil
}

// serve takes a connection from the listener.
func (t *Transport) serve(h hello.Hello, conn net.Conn) {
	if !t.start(func() { t.park(place{h.Rank, string(h.Token)}, conn) }) {
		conn.Close()
	}
}

// park waits until the dialer has chosen this connection among those that it tried, and then until it is taken, its
// dialer goes away, or its time is over.
func (t *Transport) park(at place, conn net.Conn) {
	t.keep(conn)
	stop := context.AfterFunc(t.life, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	conn.SetReadDeadline(time.Now().Add(openWait))
	t.lot.gate(1)
	err := readOpen(conn)
	t.lot.gate(-1)
	if going := stop(); !going || err != nil {
		// One that was not chosen ends without a word.
		if going && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.cfg.Listener.Nonsense(conn, err)
		}
		conn.Close()
		return
	}
	conn.SetReadDeadline(t.parkedUntil())
	p := &parked{conn: conn, free: make(chan struct{})}
	if err := t.lot.put(at, p); err != nil {
		t.log.Warn("tcp: connection closed", "peer", at.rank, "error", err)
		conn.Close()
		return
	}
	defer close(p.free)
	var b [1]byte
	n, err := conn.Read(b[:])
	expired := errors.Is(err, os.ErrDeadlineExceeded)
	if n > 0 {
		err = fmt.Errorf("%w: the dialer sends before it has the link", transport.ErrProtocol)
	}
	if t.lot.leave(at, p) {
		switch {
		case n > 0:
			t.cfg.Listener.Nonsense(conn, err)
		case expired:
			t.log.Warn("tcp: connection closed: nobody asked for its link", "peer", at.rank, "key", at.key, slog.Duration("waited", t.cfg.ParkTimeout))
		}
		conn.Close()
		return
	}
	// It was taken, which ended the read; or the read ended just before, or it was replaced and closed.
	switch {
	case n > 0:
		p.err = fmt.Errorf("tcp: %w", err)
	case !expired:
		p.err = fmt.Errorf("tcp: the dialer went away: %w", err)
	}
}

// parkedUntil returns when a connection that is parked now expires, the zero time for never.
func (t *Transport) parkedUntil() (end time.Time) {
	if t.cfg.ParkTimeout > 0 {
		end = time.Now().Add(t.cfg.ParkTimeout)
	}
	return end
}

// fetch waits for the connection that the peer dials.
func (t *Transport) fetch(ctx context.Context, at place) (net.Conn, error) {
	arrival, err := t.lot.want(at)
	if err != nil {
		return nil, err
	}
	defer t.lot.unwant(at)
	for ctx.Err() == nil {
		if p := t.lot.take(at); p != nil {
			conn, err := accept(p)
			if err == nil {
				t.log.Debug("link", "peer", at.rank, "transport", Name, "address", conn.RemoteAddr().String())
				return conn, nil
			}
			t.log.Debug("tcp: connection closed", "peer", at.rank, "error", err)
			continue
		}
		select {
		case <-arrival:
		case <-ctx.Done():
		}
	}
	return nil, fmt.Errorf("%w, waiting for its connection", context.Cause(ctx))
}

// accept takes a connection over from its goroutine and tells the dialer.
func accept(p *parked) (net.Conn, error) {
	p.conn.SetReadDeadline(time.Unix(1, 0))
	<-p.free
	err := p.err
	if err == nil && hungUp(p.conn) {
		err = errors.New("tcp: the dialer went away")
	}
	if err == nil {
		err = p.conn.SetDeadline(time.Now().Add(openWait))
	}
	if err == nil {
		err = sendOpen(p.conn)
	}
	if err == nil {
		err = p.conn.SetDeadline(time.Time{})
	}
	if err != nil {
		p.conn.Close()
	}
	return p.conn, err
}
