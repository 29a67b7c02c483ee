// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// Link is one end of a TCP connection that has left Go's poller. Its states:
//
//	up ──Close──▶ closed     err = ErrClosed; the descriptor has gone to the transport, which lingers
//	 └──fault──▶ broken      err = *PeerError; the descriptor is closed
//
// A fault is found by Poll only, and only after it has returned everything that was complete before. Read on: send.go,
// receive.go, frame.go, health.go.
type Link struct {
	fd       int
	self     int // rank at this end, for errors
	peer     int
	addr     string
	bell     wait.Bell
	landings [][]byte
	credits  transport.Credits
	linger   func(fd int, rest []byte) // takes the descriptor over, and the last bytes to send
	secure   *secureStream             // between the link and its descriptor; nil without TLS

	out      sender
	in       receiver
	interest interest
	monitor  pulse.Monitor
	err      error // sticky
}

var (
	_ transport.Link       = (*Link)(nil)
	_ transport.Redirector = (*Link)(nil)
	_ transport.Breaker    = (*Link)(nil)
	_ transport.Prober     = (*Link)(nil)
)

// interest is what the bell watches the descriptor for.
type interest uint8

const (
	unwatched interest = iota
	reading
	readingAndWriting
)

func newLink(fd, peer int, addr string, cfg *transport.LinkConfig, secure *secureStream, linger func(fd int, rest []byte)) *Link {
	if secure != nil {
		secure.under.fd = fd
	}
	return &Link{
		secure: secure,
		fd:     fd, peer: peer, addr: addr, bell: cfg.Bell, landings: cfg.Landings, linger: linger,
		credits: transport.NewCredits(cfg), out: newSender(cfg.Posts()), in: receiver{elsewhere: make([]redirect, len(cfg.Landings))},
	}
}

// Peer implements transport.Link.
func (l *Link) Peer() int { return l.peer }

// Transport returns "tcp".
func (l *Link) Transport() string { return Name }

// Limit implements transport.Link.
func (l *Link) Limit() uint32 { return l.credits.Limit() }

// Grant implements transport.Link.
func (l *Link) Grant(limit uint32) { l.credits.Grant(limit) }

// Post implements transport.Link. Sent means that the kernel has all bytes. They leave in the next Poll, so that what is
// posted in a row goes in one call.
func (l *Link) Post(m transport.Message) error {
	switch {
	case l.err != nil:
		return l.err
	case !l.credits.MayPost(m.Seq):
		return transport.ErrNoCredit
	case l.out.posts == len(l.out.done):
		return transport.ErrPosts
	case uint64(len(m.Payload)) > math.MaxUint32:
		return fmt.Errorf("tcp: post to rank %d: %d bytes, a message has less than 4 GiB", l.peer, len(m.Payload))
	}
	l.out.posts++
	l.out.push(header{kind: kindMessage, landing: m.Landing, seq: m.Seq, tag: m.Tag, sum: m.Sum, bytes: uint32(len(m.Payload))}, m.Payload)
	return nil
}

// Flush implements transport.Link.
func (l *Link) Flush() error {
	if l.err != nil {
		return l.err
	}
	l.credits.Force()
	l.send()
	return nil
}

// Poll implements transport.Link.
func (l *Link) Poll(ev []transport.Event) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	l.send()
	n := l.out.completions(ev)
	n += l.receive(ev[n:])
	if n > 0 {
		return n, nil // the owner does not sleep now
	}
	err := l.in.err
	if err == nil {
		err = l.watch()
	}
	if l.secure != nil && l.secure.holds(l.in.drained) {
		l.bell.Ring() // what TLS holds back is not in the socket, whose readiness would end the owner's sleep
	}
	if err != nil {
		l.fail(err)
		return 0, l.err
	}
	return 0, nil
}

// watch makes the bell watch for what the link waits for. It is called by polls that return no event: these come before
// a sleep, and the others save the system call.
func (l *Link) watch() error {
	want := reading
	if l.out.pending() || l.secure != nil && l.secure.under.out.len() > 0 {
		want = readingAndWriting
	}
	if want == l.interest {
		return nil
	}
	l.interest = want
	if err := l.bell.Watch(l.fd, true, want == readingAndWriting); err != nil {
		return fmt.Errorf("the link can't wake its owner: %w", err)
	}
	return nil
}

// unwatch is for the end of the link; a bell that fails to forget a descriptor does so when that is closed.
func (l *Link) unwatch() {
	if l.interest != unwatched {
		l.interest = unwatched
		_ = l.bell.Watch(l.fd, false, false)
	}
}

// fail breaks the link.
func (l *Link) fail(cause error) {
	if pulse.Cut(cause) {
		cause = fmt.Errorf("its host does not answer rank %d: %w", l.self, cause)
	}
	l.err = &transport.PeerError{Peer: l.peer, Transport: Name, Addr: l.addr, Err: cause}
	l.unwatch()
	unix.Close(l.fd)
	l.release()
}

// release forgets the caller's memory.
func (l *Link) release() {
	l.fd = -1
	l.out.drop()
	l.in.rest, l.in.elsewhere, l.landings = nil, nil, nil
	l.secure = nil
}

// Close implements transport.Link. The close frame follows only if every post has left.
func (l *Link) Close() error {
	if errors.Is(l.err, transport.ErrClosed) {
		return nil
	}
	up := l.err == nil
	l.err = transport.ErrClosed
	if !up {
		return nil
	}
	if l.out.err == nil && !l.out.owes() { // a message whose owner ends the link may be overwritten already
		l.out.push(header{kind: kindClose}, nil)
		l.send()
	}
	l.unwatch()
	if l.secure != nil { // what is encrypted goes as it is
		l.advance(l.secure.ahead)
	}
	fd, rest := l.fd, l.out.control()
	if l.secure != nil {
		rest = l.secure.last(rest)
	}
	l.release()
	l.linger(fd, rest)
	return nil
}
