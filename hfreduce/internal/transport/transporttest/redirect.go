// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"errors"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// redirector returns the link as a Redirector, nil if it is none, and checks that this is what the transport says.
func redirector(t testing.TB, impl Implementation, e *end) transport.Redirector {
	r, ok := e.link.(transport.Redirector)
	if ok != impl.Redirects {
		t.Fatalf("that the link is a Redirector is %v, the transport says %v", ok, impl.Redirects)
	}
	return r
}

// testRedirect: of three messages to one area, the one whose item was redirected lands elsewhere.
func testRedirect(t *testing.T, impl Implementation) {
	for _, n := range []int{0, 1, 64, 5000, 8192, impl.bytes(300_000)} {
		a, b := newPair(t, impl, pairConfig{landings: []int{n, 8}, posts: 1})
		r := redirector(t, impl, b)
		if r == nil {
			return
		}
		elsewhere := newAreas(t, impl, []int{n})
		if !r.Redirect(0, item(1), elsewhere.landings[0]) {
			t.Fatal("a message that was not posted could not be redirected")
		}
		for i := range 3 {
			m := transport.Message{Seq: item(i), Payload: a.payload(n, uint64(i))}
			a.post(m)
			await(t, "message", func() bool { return a.count(transport.Sent) == 1 && b.count(transport.Received) == 1 }, a, b)
			a.take(transport.Sent)
			checkEvent(t, b.take(transport.Received)[0], m, transport.Received)
			switch i {
			case 0:
				elsewhere.untouched(t, 0, 0)
				b.areas.check(t, 0, n, 0)
			case 1:
				elsewhere.check(t, 0, n, 1)
				b.areas.check(t, 0, n, 0)
			case 2:
				elsewhere.check(t, 0, n, 1)
				b.areas.check(t, 0, n, 2)
			}
		}
	}
}

// testRedirectLate: whenever it comes, a message lands where Redirect says.
func testRedirectLate(t *testing.T, impl Implementation) {
	n := impl.bytes(3 << 20)
	for polls := range 12 {
		a, b := newPair(t, impl, pairConfig{landings: []int{n}})
		r := redirector(t, impl, b)
		if r == nil {
			return
		}
		elsewhere := newAreas(t, impl, []int{n})
		a.post(transport.Message{Seq: start, Payload: a.payload(n, 5)})
		for range polls {
			a.poll()
			b.poll()
		}
		if b.count(transport.Received) > 0 {
			break
		}
		redirected := r.Redirect(0, start, elsewhere.landings[0])
		await(t, "message", func() bool { return b.count(transport.Received) == 1 }, a, b)
		if redirected {
			elsewhere.check(t, 0, n, 5)
			b.areas.untouched(t, 0, 0)
		} else {
			elsewhere.untouched(t, 0, 0)
			b.areas.check(t, 0, n, 5)
		}
	}
}

// testRedirectShort: a message that is too long for the area that it was redirected to breaks the link and writes nothing.
func testRedirectShort(t *testing.T, impl Implementation) {
	a, b := newPair(t, impl, pairConfig{landings: []int{1000}})
	r := redirector(t, impl, b)
	if r == nil {
		return
	}
	elsewhere := newAreas(t, impl, []int{999})
	r.Redirect(0, start, elsewhere.landings[0])
	a.post(transport.Message{Seq: start, Payload: a.payload(1000, 1)})
	if err := b.failure(a); !errors.Is(err, transport.ErrProtocol) {
		t.Errorf("got %v", err)
	}
	elsewhere.untouched(t, 0, 0)
	b.areas.untouched(t, 0, 0)
	if r.Redirect(0, item(1), elsewhere.landings[0]) {
		t.Error("a broken link redirects")
	}
}
