// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"errors"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// checkLost checks that a link is broken for good and says whose it was.
func checkLost(t testing.TB, e *end, err error) {
	t.Helper()
	var pe *transport.PeerError
	if !errors.Is(err, transport.ErrPeerLost) || !errors.As(err, &pe) || pe.Peer != e.link.Peer() {
		t.Errorf("got %v, want a PeerError of rank %d that wraps ErrPeerLost", err, e.link.Peer())
	}
	if _, again := e.link.Poll(e.buf[:]); again != err {
		t.Errorf("the error is not sticky: %v, then %v", err, again)
	}
	if perr := e.link.Post(transport.Message{Seq: start}); !errors.Is(perr, transport.ErrPeerLost) {
		t.Errorf("post on a broken link: %v", perr)
	}
	if ferr := e.link.Flush(); !errors.Is(ferr, transport.ErrPeerLost) {
		t.Errorf("flush on a broken link: %v", ferr)
	}
	e.link.Grant(item(1000)) // must do no harm
}

// testBadLanding: an area that the peer does not have, or that is too short, breaks the link at both ends, and nothing
// is written.
func testBadLanding(t *testing.T, impl Implementation) {
	for _, m := range []transport.Message{
		{Landing: 2, Payload: []byte{1}}, {Landing: ^uint32(0)}, {Landing: 1 << 31, Payload: []byte{1}},
		{Landing: 0, Payload: make([]byte, 101)}, {Landing: 1, Payload: []byte{1}}, {Landing: 0, Payload: make([]byte, 1<<20)},
	} {
		m.Seq = start
		a, b := newPair(t, impl, pairConfig{landings: []int{100, 0}})
		if err := a.link.Post(m); err != nil && !errors.Is(err, transport.ErrPeerLost) {
			t.Errorf("post: %v", err)
		}
		err := b.failure(a)
		checkLost(t, b, err)
		if !errors.Is(err, transport.ErrProtocol) {
			t.Errorf("receiver of %d bytes for landing %d got %v", len(m.Payload), m.Landing, err)
		}
		b.link.Close()
		checkLost(t, a, a.failure())
		if n := b.count(transport.Received); n != 0 {
			t.Errorf("%d bytes for landing %d were received", len(m.Payload), m.Landing)
		}
		b.areas.untouched(t, 0, 0)
	}
}

// testPeerCloses: what was Sent before a Close arrives, then comes ErrPeerClosed.
func testPeerCloses(t *testing.T, impl Implementation) {
	const n = 5
	a, b := newPair(t, impl, pairConfig{landings: []int{3000, 3000, 3000, 3000, 3000}})
	for i := range n {
		a.post(a.message(i, 3000))
	}
	await(t, "sent", func() bool { return a.count(transport.Sent) == n }, a)
	if err := a.link.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	err := b.failure()
	checkLost(t, b, err)
	if !errors.Is(err, transport.ErrPeerClosed) {
		t.Errorf("got %v, want ErrPeerClosed", err)
	}
	received := b.take(transport.Received)
	if len(received) != n {
		t.Fatalf("%d of %d messages arrived", len(received), n)
	}
	for i, ev := range received {
		checkMessage(t, ev, i, 3000, transport.Received)
		b.areas.check(t, uint32(i), 3000, uint64(i))
	}
}

// testCloseUnread: a Close that leaves messages of the peer unread takes nothing of what was Sent with it.
func testCloseUnread(t *testing.T, impl Implementation) {
	bytes := impl.bytes(200_000)
	a, b := newPair(t, impl, pairConfig{landings: []int{bytes}})
	b.post(transport.Message{Seq: start, Payload: b.payload(1000, 1)})
	await(t, "b sent", func() bool { return b.count(transport.Sent) == 1 }, b)
	a.post(transport.Message{Seq: start, Payload: a.payload(bytes, 2)})
	await(t, "a sent", func() bool {
		if a.count(transport.Sent) == 0 {
			b.poll()
			return false
		}
		return true
	}, a)
	a.link.Close()
	if err := b.failure(); !errors.Is(err, transport.ErrPeerClosed) {
		t.Errorf("got %v, want ErrPeerClosed", err)
	}
	if n := b.count(transport.Received); n != 1 {
		t.Fatalf("%d messages arrived", n)
	}
	b.areas.check(t, 0, bytes, 2)
}

// testPeerBreaks: the end of the peer without goodbye is seen by an end that waits and by one that posts.
func testPeerBreaks(t *testing.T, impl Implementation) {
	if impl.Break == nil {
		return
	}
	a, b := newPair(t, impl, pairConfig{landings: []int{1000}})
	a.post(transport.Message{Seq: start, Payload: a.payload(1000, 7)})
	await(t, "message", func() bool { return a.count(transport.Sent) == 1 && b.count(transport.Received) == 1 }, a, b)
	impl.Break(a.link)
	err := b.failure()
	checkLost(t, b, err)
	if errors.Is(err, transport.ErrPeerClosed) {
		t.Errorf("a break looks like a close: %v", err)
	}
	b.areas.check(t, 0, 1000, 7)
	if err := b.link.Close(); err != nil {
		t.Errorf("close of a broken link: %v", err)
	}
}

// testCloseDrops: after Close the payload is the caller's again, even if it never left.
func testCloseDrops(t *testing.T, impl Implementation) {
	n, bytes := 16, impl.bytes(1<<20)
	lengths := make([]int, n)
	for i := range lengths {
		lengths[i] = bytes
	}
	a, b := newPair(t, impl, pairConfig{landings: lengths, posts: n})
	payload := a.payload(bytes, 3)
	for i := range n {
		a.post(transport.Message{Landing: uint32(i), Seq: start, Payload: payload})
	}
	a.link.Close()
	clear(payload)
	err := b.failure()
	checkLost(t, b, err)
	received := b.take(transport.Received)
	for _, ev := range received {
		b.areas.check(t, ev.Landing, bytes, 3)
	}
	if len(received) < n && errors.Is(err, transport.ErrPeerClosed) {
		t.Errorf("%d of %d messages were dropped, and yet: %v", n-len(received), n, err)
	}
}

// testClose: Close may be called again, and afterwards every use says ErrClosed.
func testClose(t *testing.T, impl Implementation) {
	a, b := newPair(t, impl, pairConfig{})
	for range 3 {
		if err := a.link.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := a.link.Poll(a.buf[:]); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("poll after close: %v", err)
	}
	if err := a.link.Post(transport.Message{Seq: start}); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("post after close: %v", err)
	}
	if err := a.link.Flush(); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("flush after close: %v", err)
	}
	a.link.Grant(item(100))
	if a.link.Peer() != 1 {
		t.Errorf("peer after close: %d", a.link.Peer())
	}
	if err := b.failure(); !errors.Is(err, transport.ErrPeerClosed) {
		t.Errorf("peer got %v", err)
	}
	if err := b.link.Close(); err != nil {
		t.Errorf("close after the peer's: %v", err)
	}
	if _, err := b.link.Poll(b.buf[:]); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("poll after both closes: %v", err)
	}
}
