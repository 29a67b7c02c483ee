// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// testGrants: limits begin at Start, grow as granted, over the wrap, and never go back.
func testGrants(t *testing.T, impl Implementation) {
	a, b := newPair(t, impl, pairConfig{window: 2, grant: 1})
	for g := uint32(2); g < 200; g++ {
		b.link.Grant(item(g))
		b.link.Grant(item(g) - 1) // going back is ignored
		await(t, fmt.Sprint("grant ", g), func() bool { return a.link.Limit() == item(g) }, a, b)
	}
	b.link.Grant(item(200 + 1<<30))
	await(t, "a large step", func() bool { return a.link.Limit() == item(200+1<<30) }, a, b)
	if got := b.link.Limit(); got != item(1) {
		t.Errorf("granting raised the own limit to %d", got-start)
	}
}

// testGrantsFlow streams with every small window: the Window/2 rule alone must keep credits flowing.
func testGrantsFlow(t *testing.T, impl Implementation) {
	for window := uint32(1); window <= 9; window++ {
		a, b := newPair(t, impl, pairConfig{landings: make([]int, 9+8), window: window, grant: window})
		posted, received, outstanding := uint32(0), uint32(0), 0
		await(t, fmt.Sprint("window ", window), func() bool {
			outstanding -= len(a.take(transport.Sent))
			if posted < 50 && outstanding < 8 && transport.Before(item(posted), a.link.Limit()) {
				a.post(transport.Message{Landing: posted % 17, Seq: item(posted)})
				posted++
				outstanding++
			}
			received += uint32(len(b.take(transport.Received)))
			b.link.Grant(item(received) + window)
			return received == 50
		}, a, b)
	}
}

// testGrantFlush: a grant that is too small for the Window/2 rule goes with the next message, or by Flush.
func testGrantFlush(t *testing.T, impl Implementation) {
	a, b := newPair(t, impl, pairConfig{window: 100, grant: 10})
	b.link.Grant(item(11))
	b.post(transport.Message{Seq: start, Payload: b.payload(10, 1)})
	await(t, "grant with a message", func() bool { return a.link.Limit() == item(11) }, a, b)
	b.link.Grant(item(12))
	b.flush()
	await(t, "grant by Flush", func() bool { return a.link.Limit() == item(12) }, a, b)
	b.flush() // nothing to tell
	await(t, "message", func() bool { return a.count(transport.Received) == 1 }, a, b)
}

// testMistakes: what the caller does wrong changes nothing.
func testMistakes(t *testing.T, impl Implementation) {
	a, b := newPair(t, impl, pairConfig{landings: make([]int, 3), grant: 3, posts: 2})
	for _, seq := range []uint32{3, 4, 1 << 30} {
		if err := a.link.Post(transport.Message{Seq: item(seq)}); !errors.Is(err, transport.ErrNoCredit) {
			t.Errorf("post of item %d, which is not granted: %v", seq, err)
		}
	}
	a.post(transport.Message{Seq: start})
	a.post(transport.Message{Landing: 1, Seq: item(1)})
	if err := a.link.Post(transport.Message{Seq: item(2)}); !errors.Is(err, transport.ErrPosts) {
		t.Errorf("third post: %v", err)
	}
	await(t, "both", func() bool { return a.count(transport.Sent) == 2 && b.count(transport.Received) == 2 }, a, b)
	a.post(transport.Message{Landing: 2, Seq: item(2)})
	await(t, "third", func() bool { return a.count(transport.Sent) == 3 && b.count(transport.Received) == 3 }, a, b)
	for i, ev := range b.take(transport.Received) {
		if ev.Seq != item(i) {
			t.Errorf("message %d is of item %d", i, ev.Seq-start)
		}
	}
}
