// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"errors"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// testBreaker: a link that breaks by itself is broken at both ends, without a goodbye, after what was complete.
func testBreaker(t *testing.T, impl Implementation) {
	a, b := newPair(t, impl, pairConfig{landings: []int{1000, 1000}})
	breaker, ok := a.link.(transport.Breaker)
	if !ok {
		return
	}
	a.post(a.message(0, 1000))
	await(t, "message", func() bool { return a.count(transport.Sent) == 1 && b.count(transport.Received) == 1 }, a, b)
	breaker.Break()
	checkBroken(t, a, b)
	b.areas.check(t, 0, 1000, 0)
}

// testBreakAmid: of a message in which the link breaks some bytes may land; it is never Sent and never Received.
func testBreakAmid(t *testing.T, impl Implementation) {
	for _, landed := range []int{0, 1, 512, 4000, 1 << 20} {
		a, b := newPair(t, impl, pairConfig{landings: []int{1000, 4000}})
		breaker, ok := a.link.(transport.Breaker)
		if !ok {
			return
		}
		a.post(a.message(0, 1000))
		await(t, "message", func() bool { return a.count(transport.Sent) == 1 && b.count(transport.Received) == 1 }, a, b)
		m := a.message(1, 4000)
		breaker.BreakAmid(m, landed)
		checkBroken(t, a, b)
		if a.count(transport.Sent) != 1 || b.count(transport.Received) != 1 {
			t.Errorf("%d bytes landed: events %v and %v, want one Sent and one Received", landed, a.events, b.events)
		}
		b.areas.untouched(t, 1, min(landed, len(m.Payload)))
		for i, x := range b.areas.landings[1] {
			if x != m.Payload[i] && x != guardByte {
				t.Fatalf("%d bytes landed: byte %d is none of the message", landed, i)
			}
		}
	}
}

// checkBroken checks that both ends are broken, and not closed.
func checkBroken(t *testing.T, a, b *end) {
	t.Helper()
	for _, e := range []*end{a, b} {
		err := e.failure()
		checkLost(t, e, err)
		if errors.Is(err, transport.ErrPeerClosed) {
			t.Errorf("a break looks like a close: %v", err)
		}
	}
}
