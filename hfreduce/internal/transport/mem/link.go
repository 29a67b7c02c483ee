// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// errBroken is the cause that Break gives.
var errBroken = errors.New("its process ended")

// Link is one end of an in-process link. The owner's goroutine uses the first group of fields, both ends the second.
type Link struct {
	self, peer int
	other      *Link
	joined     chan struct{} // closed when other is set, for the end that came first
	bell       wait.Bell
	posts      int // most posts outstanding
	credits    transport.Credits
	sent       queue
	err        error // sticky

	mu       sync.Mutex // never held together with other's
	landings [][]byte
	inbox    queue
	heard    uint32      // the peer's latest grant
	broken   error       // why the link is, once inbox is empty
	ended    error       // nothing may land here any more; what the peer is told
	news     atomic.Bool // Poll has to look at what mu guards
}

var (
	_ transport.Link    = (*Link)(nil)
	_ transport.Breaker = (*Link)(nil)
)

func newLink(self, peer int, cfg *transport.LinkConfig) *Link {
	return &Link{
		self: self, peer: peer, joined: make(chan struct{}),
		landings: cfg.Landings, bell: cfg.Bell, posts: cfg.Posts(),
		credits: transport.NewCredits(cfg), heard: cfg.Start,
	}
}

func (l *Link) orNil(err error) (transport.Link, error) {
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Peer implements transport.Link.
func (l *Link) Peer() int { return l.peer }

// Transport returns "mem".
func (l *Link) Transport() string { return Name }

// Limit implements transport.Link.
func (l *Link) Limit() uint32 { return l.credits.Limit() }

// Grant implements transport.Link.
func (l *Link) Grant(limit uint32) { l.credits.Grant(limit) }

// Post implements transport.Link: the bytes land before it returns.
func (l *Link) Post(m transport.Message) error {
	switch {
	case l.err != nil:
		return l.err
	case !l.credits.MayPost(m.Seq):
		return transport.ErrNoCredit
	case l.sent.n == l.posts:
		return transport.ErrPosts
	}
	if err := l.other.land(&m, l.credits.Granted()); err != nil {
		if errors.Is(err, transport.ErrProtocol) {
			l.end(fmt.Errorf("it refused a message: %w", err), err)
		}
		return l.lost(err)
	}
	l.credits.Told(l.credits.Granted())
	l.sent.push(transport.Event{Kind: transport.Sent, Landing: m.Landing, Seq: m.Seq, Tag: m.Tag, Sum: m.Sum, Bytes: len(m.Payload)})
	return nil
}

// land takes a message in; it is called by the peer.
func (l *Link) land(m *transport.Message, grant uint32) error {
	l.mu.Lock()
	if l.ended != nil {
		defer l.mu.Unlock()
		return l.ended
	}
	if m.Landing >= uint32(len(l.landings)) || len(m.Payload) > len(l.landings[m.Landing]) {
		defer l.mu.Unlock()
		return fmt.Errorf("%w: %d bytes for landing area %d, which rank %d does not have", transport.ErrProtocol,
			len(m.Payload), m.Landing, l.self)
	}
	copy(l.landings[m.Landing], m.Payload)
	l.inbox.push(transport.Event{Kind: transport.Received, Landing: m.Landing, Seq: m.Seq, Tag: m.Tag, Sum: m.Sum, Bytes: len(m.Payload)})
	l.heard = grant
	l.news.Store(true)
	l.mu.Unlock()
	l.bell.Ring()
	return nil
}

// Flush implements transport.Link.
func (l *Link) Flush() error {
	if l.err != nil {
		return l.err
	}
	l.credits.Force()
	l.tell()
	return nil
}

// tell sends the grant by itself if that is due.
func (l *Link) tell() {
	if !l.credits.Due() {
		return
	}
	o := l.other
	o.mu.Lock()
	o.heard = l.credits.Granted()
	o.news.Store(true)
	o.mu.Unlock()
	o.bell.Ring()
	l.credits.Told(l.credits.Granted())
}

// Poll implements transport.Link.
func (l *Link) Poll(ev []transport.Event) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	l.tell()
	n := l.sent.pop(ev)
	if !l.news.Load() {
		return n, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.credits.Heard(l.heard)
	n += l.inbox.pop(ev[n:])
	if n == 0 && l.broken != nil {
		l.err = l.lost(l.broken)
		return 0, l.err
	}
	l.news.Store(l.inbox.n > 0 || l.broken != nil)
	return n, nil
}

// Close implements transport.Link.
func (l *Link) Close() error {
	if !errors.Is(l.err, transport.ErrClosed) {
		l.err = transport.ErrClosed
		l.end(transport.ErrClosed, transport.ErrPeerClosed)
	}
	return nil
}

// Break implements transport.Breaker. Any goroutine may call it.
func (l *Link) Break() { l.end(errBroken, errBroken) }

// BreakAmid implements transport.Breaker.
func (l *Link) BreakAmid(m transport.Message, bytes int) {
	o := l.other
	o.mu.Lock()
	if o.ended == nil && m.Landing < uint32(len(o.landings)) && len(m.Payload) <= len(o.landings[m.Landing]) {
		copy(o.landings[m.Landing], m.Payload[:min(bytes, len(m.Payload))])
	}
	o.mu.Unlock()
	l.Break()
}

// end makes the link unusable at both ends: here for the cause here, at the peer for the cause there. The first cause
// stays.
func (l *Link) end(here, there error) {
	l.spoil(here, there)
	l.other.spoil(there, here)
	l.bell.Ring()
	l.other.bell.Ring()
}

// spoil ends this end: its owner is told cause, a peer that posts is told toPeer.
func (l *Link) spoil(cause, toPeer error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken == nil {
		l.broken = cause
	}
	if l.ended == nil {
		l.ended = toPeer
	}
	l.news.Store(true)
}

func (l *Link) lost(cause error) error {
	return &transport.PeerError{Peer: l.peer, Transport: "mem", Err: cause}
}
