// SPDX-License-Identifier: Apache-2.0

// Package transporttest is the conformance suite that every transport must pass.
package transporttest

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// Implementation is what a transport gives to be tested.
type Implementation struct {
	// New returns the transports of ranks 0 to n-1, which can reach each other. It closes them at the end of the test.
	New func(t testing.TB, n int) []transport.Transport
	// NewBell returns a bell that the transport can work with. It closes it at the end of the test.
	NewBell func(t testing.TB) wait.Bell
	// MaxBytes bounds the messages of the suite, for a transport that is slow by its configuration; zero: some MiB.
	MaxBytes int
	// Memory returns n bytes that the links of all transports of New can send from and land in, until a later New; nil: any
	// memory will do. What was returned long ago in the same test may be returned again.
	Memory func(t testing.TB, n int) []byte
	// Allocates says that the links allocate in steady state, as crypto/tls does for each record that it reads.
	Allocates bool
	// Redirects says whether the links are Redirectors.
	Redirects bool
	// Break ends a link without any goodbye, as the death of its process would. nil: the links are another transport's, for
	// which that is tested.
	Break func(l transport.Link)
}

// bytes returns n, or less if the implementation is slow.
func (impl *Implementation) bytes(n int) int {
	if impl.MaxBytes > 0 {
		return min(n, impl.MaxBytes)
	}
	return n
}

// memory returns n bytes that may be sent.
func (impl *Implementation) memory(t testing.TB, n int) []byte {
	if impl.Memory == nil {
		return make([]byte, n)
	}
	return impl.Memory(t, n)
}

// patience bounds every wait of the suite. Nothing is expected to take that long.
const patience = 20 * time.Second

// start is where the sequence numbers of most tests begin: they wrap soon.
const start = ^uint32(0) - 5

// item returns the sequence number of the n-th item.
func item[T int | uint32](n T) uint32 { return start + uint32(n) }

// Run runs the suite.
func Run(t *testing.T, impl Implementation) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Implementation)
	}{
		{"sizes", testSizes}, {"order", testOrder}, {"both ways", testBothWays}, {"backlog", testBacklog},
		{"payload reuse", testPayloadReuse}, {"many links", testManyLinks}, {"no allocation", testAllocations},
		{"grants", testGrants}, {"grants flow", testGrantsFlow}, {"grant below the window", testGrantFlush},
		{"caller's mistakes", testMistakes}, {"goroutine hand-over", testHandOver},
		{"bad landing", testBadLanding}, {"peer closes", testPeerCloses}, {"peer closes with unread", testCloseUnread},
		{"peer breaks", testPeerBreaks}, {"drop on close", testCloseDrops}, {"close", testClose},
		{"connect late", testConnectLate}, {"connect cancelled", testConnectCancelled}, {"connect closed", testConnectClosed},
		{"connect keys", testConnectKeys}, {"connect nobody", testConnectNobody},
		{"sleep message", testSleepMessage}, {"sleep grant", testSleepGrant}, {"sleep blocked sender", testSleepBlocked},
		{"sleep loss", testSleepLoss},
		{"redirect", testRedirect}, {"redirect late", testRedirectLate}, {"redirect too short", testRedirectShort},
		{"breaker", testBreaker}, {"break amid a message", testBreakAmid},
		{"model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, impl) })
	}
}

// end is one end of a link under test.
type end struct {
	t      testing.TB
	impl   Implementation
	link   transport.Link
	bell   wait.Bell
	areas  areas
	events []transport.Event // what was polled and not yet looked at
	buf    [4]transport.Event
}

// pairConfig says how newPair sets up both ends. Zero means a default.
type pairConfig struct {
	landings []int  // lengths
	window   uint32 // 64
	grant    uint32 // 64: how many items are granted before the pair is handed out
	posts    int
}

func (c pairConfig) defaults() pairConfig {
	if c.window == 0 {
		c.window = 64
	}
	if c.grant == 0 {
		c.grant = 64
	}
	if c.landings == nil {
		c.landings = []int{64 << 10}
	}
	return c
}

// newPair returns the two ends of a link between ranks 0 and 1 of new transports.
func newPair(t testing.TB, impl Implementation, c pairConfig) (a, b *end) {
	ts := impl.New(t, 2)
	return connectPair(t, impl, ts[0], ts[1], [2]int{0, 1}, "pair", c)
}

// connectPair connects two transports and grants both ways. The links are closed at the end of the test.
func connectPair(t testing.TB, impl Implementation, ta, tb transport.Transport, ranks [2]int, key string, c pairConfig) (a, b *end) {
	t.Helper()
	c = c.defaults()
	a, b = newEnd(t, impl, c), newEnd(t, impl, c)
	failed := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() {
		l, err := tb.Connect(ctx, ranks[0], key, b.config(c))
		b.link = l
		failed <- err
	}()
	l, err := ta.Connect(ctx, ranks[1], key, a.config(c))
	a.link = l
	if err2 := <-failed; err != nil || err2 != nil {
		t.Fatalf("connect: %v; %v", err, err2)
	}
	t.Cleanup(func() { a.link.Close(); b.link.Close() })
	for _, e := range []*end{a, b} {
		e.link.Grant(item(c.grant))
		e.flush()
	}
	await(t, "first grants", func() bool { return a.link.Limit() == item(c.grant) && b.link.Limit() == item(c.grant) }, a, b)
	return a, b
}

func newEnd(t testing.TB, impl Implementation, c pairConfig) *end {
	c = c.defaults()
	return &end{t: t, impl: impl, bell: impl.NewBell(t), areas: newAreas(t, impl, c.landings)}
}

func (e *end) config(c pairConfig) transport.LinkConfig {
	c = c.defaults()
	return transport.LinkConfig{Landings: e.areas.landings, Bell: e.bell, Window: c.window, Start: start, MaxPosts: c.posts}
}

// payload returns n bytes of a seed's pattern that the link can send.
func (e *end) payload(n int, seed uint64) []byte {
	b := e.impl.memory(e.t, n)
	fill(b, seed)
	return b
}

func (e *end) post(m transport.Message) {
	e.t.Helper()
	if err := e.link.Post(m); err != nil {
		e.t.Fatalf("post %d bytes to landing %d: %v", len(m.Payload), m.Landing, err)
	}
}

func (e *end) flush() {
	e.t.Helper()
	if err := e.link.Flush(); err != nil {
		e.t.Fatalf("flush: %v", err)
	}
}

// poll polls once, keeps the events and returns their number.
func (e *end) poll() int {
	e.t.Helper()
	n, err := e.link.Poll(e.buf[:])
	if err != nil {
		e.t.Fatalf("poll: %v", err)
	}
	e.events = append(e.events, e.buf[:n]...)
	return n
}

// take returns the kept events of one kind, in order, and forgets all.
func (e *end) take(kind transport.EventKind) []transport.Event {
	var out []transport.Event
	for _, ev := range e.events {
		if ev.Kind == kind {
			out = append(out, ev)
		}
	}
	e.events = e.events[:0]
	return out
}

func (e *end) count(kind transport.EventKind) int {
	n := 0
	for _, ev := range e.events {
		if ev.Kind == kind {
			n++
		}
	}
	return n
}

// failure polls until the link's error comes. It polls senders, too, for as long as they have something to send.
func (e *end) failure(senders ...*end) error {
	e.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
		for _, s := range senders {
			n, _ := s.link.Poll(s.buf[:])
			s.events = append(s.events, s.buf[:n]...)
		}
		n, err := e.link.Poll(e.buf[:])
		e.events = append(e.events, e.buf[:n]...)
		if err != nil {
			if n != 0 {
				e.t.Errorf("an error came with %d events", n)
			}
			return err
		}
	}
	e.t.Fatalf("no error within %v", patience)
	return nil
}

// await polls the ends until the condition holds.
func await(t testing.TB, what string, condition func() bool, ends ...*end) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); runtime.Gosched() {
		for _, e := range ends {
			e.poll()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v%s", what, patience, describe(ends))
		}
	}
}

func describe(ends []*end) string {
	s := ""
	for _, e := range ends {
		s += fmt.Sprintf("; rank %d's peer: limit %d, events %v", e.link.Peer(), e.link.Limit(), e.events)
	}
	return s
}
