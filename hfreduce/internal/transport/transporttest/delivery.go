// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// testSizes sends each size alone, into areas that fit exactly and into longer ones.
func testSizes(t *testing.T, impl Implementation) {
	sizes := []int{0, 1, 7, 8, 63, 64, 65, 4095, 4096, 8192, 8193, 20_415, 20_416, 20_417, 65535, 65537, 1 << 20, 4<<20 + 3}
	for impl.bytes(sizes[len(sizes)-1]) != sizes[len(sizes)-1] {
		sizes = sizes[:len(sizes)-1]
	}
	a, b := newPair(t, impl, pairConfig{landings: append(sizes, impl.bytes(5<<20))})
	for i, size := range sizes {
		for _, landing := range []uint32{uint32(i), uint32(len(sizes))} {
			seed := uint64(i)<<32 | uint64(landing)
			m := transport.Message{Landing: landing, Seq: item(i), Tag: uint32(seed * 7), Sum: uint32(seed * 11), Payload: a.payload(size, seed)}
			a.post(m)
			await(t, fmt.Sprint("size ", size), func() bool { return a.count(transport.Sent) == 1 && b.count(transport.Received) == 1 }, a, b)
			checkEvent(t, a.take(transport.Sent)[0], m, transport.Sent)
			checkEvent(t, b.take(transport.Received)[0], m, transport.Received)
			b.areas.check(t, landing, size, seed)
		}
	}
}

func checkEvent(t testing.TB, ev transport.Event, m transport.Message, kind transport.EventKind) {
	t.Helper()
	want := transport.Event{Kind: kind, Landing: m.Landing, Seq: m.Seq, Tag: m.Tag, Sum: m.Sum, Bytes: len(m.Payload)}
	if ev != want {
		t.Errorf("got %+v, want %+v", ev, want)
	}
}

// testOrder sends a mix of small and large messages in one go; each has its own area.
func testOrder(t *testing.T, impl Implementation) {
	const n = 60
	lengths := make([]int, n)
	for i := range lengths {
		lengths[i] = []int{0, 16, 100, 5000, 40000, 300}[i*i%6] + i
	}
	a, b := newPair(t, impl, pairConfig{landings: lengths, posts: n})
	for i := range n {
		a.post(a.message(i, lengths[i]))
	}
	await(t, "all", func() bool { return a.count(transport.Sent) == n && b.count(transport.Received) == n }, a, b)
	sent, received := a.take(transport.Sent), b.take(transport.Received)
	for i := range n {
		checkMessage(t, sent[i], i, lengths[i], transport.Sent)
		checkMessage(t, received[i], i, lengths[i], transport.Received)
		b.areas.check(t, uint32(i), lengths[i], uint64(i))
	}
}

// message is the i-th message, to area i.
func (e *end) message(i, bytes int) transport.Message {
	return transport.Message{Landing: uint32(i), Seq: item(i), Tag: uint32(i) * 3, Sum: ^uint32(i), Payload: e.payload(bytes, uint64(i))}
}

// checkMessage checks an event of the i-th message.
func checkMessage(t testing.TB, ev transport.Event, i, bytes int, kind transport.EventKind) {
	t.Helper()
	checkEvent(t, ev, transport.Message{Landing: uint32(i), Seq: item(i), Tag: uint32(i) * 3, Sum: ^uint32(i), Payload: make([]byte, bytes)}, kind)
}

// testBothWays streams in both directions at once, each end on its own goroutine, with a ring of areas and grants.
func testBothWays(t *testing.T, impl Implementation) {
	const slots, items, bytes = 4, 300, 10_000
	a, b := newPair(t, impl, pairConfig{landings: []int{bytes, bytes, bytes, bytes}, window: slots, grant: slots, posts: slots})
	var wg sync.WaitGroup
	for _, e := range []*end{a, b} {
		wg.Go(func() { streamBoth(e, slots, items, bytes) })
	}
	wg.Wait()
}

// streamBoth sends and receives items and sleeps when there is nothing to do.
func streamBoth(e *end, slots, items, bytes int) {
	payloads := make([][]byte, slots)
	for i := range payloads {
		payloads[i] = e.impl.memory(e.t, bytes)
	}
	posted, sent, received := 0, 0, 0
	for sent < items || received < items {
		e.poll()
		moved := len(e.events) > 0 // sleep may have left some
		for _, ev := range e.events {
			if ev.Kind == transport.Sent {
				sent++
				continue
			}
			if ev.Seq != item(received) {
				e.t.Errorf("item %d came as %d", received, ev.Seq-start)
				return
			}
			e.areas.check(e.t, ev.Landing, ev.Bytes, uint64(received))
			received++
			e.link.Grant(item(received + slots))
		}
		e.events = e.events[:0]
		if posted < items && posted-sent < slots && transport.Before(item(posted), e.link.Limit()) {
			fill(payloads[posted%slots], uint64(posted))
			e.post(transport.Message{Landing: uint32(posted % slots), Seq: item(posted), Payload: payloads[posted%slots]})
			posted++
			moved = true
		}
		if !moved {
			e.sleep()
		}
	}
}

// sleep sleeps as an owner does: arm, poll once more, sleep.
func (e *end) sleep() {
	e.t.Helper()
	limit := e.link.Limit()
	e.bell.Arm()
	if e.poll() > 0 || e.link.Limit() != limit {
		e.bell.Disarm()
		return
	}
	if !e.bell.Sleep(patience) {
		e.t.Errorf("asleep for %v: a wake-up was lost", patience)
	}
}

// testBacklog posts as much as is allowed while the peer does not poll at all, then lets it.
func testBacklog(t *testing.T, impl Implementation) {
	n, bytes := 32, impl.bytes(256<<10)
	lengths := make([]int, n)
	for i := range lengths {
		lengths[i] = bytes
	}
	a, b := newPair(t, impl, pairConfig{landings: lengths, posts: n})
	for i := range n {
		a.post(a.message(i, bytes))
		a.poll()
	}
	await(t, "backlog", func() bool { return a.count(transport.Sent) == n && b.count(transport.Received) == n }, b, a)
	for i, ev := range b.take(transport.Received) {
		checkMessage(t, ev, i, bytes, transport.Received)
		b.areas.check(t, uint32(i), bytes, uint64(i))
	}
}

// testPayloadReuse overwrites each payload the moment that it is reported Sent.
func testPayloadReuse(t *testing.T, impl Implementation) {
	bytes, items := impl.bytes(700_000), 12
	a, b := newPair(t, impl, pairConfig{landings: []int{bytes, bytes}})
	payload := impl.memory(t, bytes)
	for i := range items {
		fill(payload, uint64(i))
		a.post(transport.Message{Landing: uint32(i % 2), Seq: item(i), Payload: payload})
		await(t, "sent", func() bool {
			if a.count(transport.Sent) == 0 {
				return false
			}
			clear(payload)
			return true
		}, a, b)
		await(t, "received", func() bool { return b.count(transport.Received) == 1 }, b)
		a.take(transport.Sent)
		b.take(transport.Received)
		b.areas.check(t, uint32(i%2), bytes, uint64(i))
	}
}

// testManyLinks joins five ranks with two links for each pair: nothing may arrive at the wrong place.
func testManyLinks(t *testing.T, impl Implementation) {
	const ranks = 5
	ts := impl.New(t, ranks)
	var ends []*end
	for i := range ranks {
		for j := range i {
			for _, key := range []string{"x", "y"} {
				a, b := connectPair(t, impl, ts[i], ts[j], [2]int{i, j}, key, pairConfig{landings: []int{100}})
				if a.link.Peer() != j || b.link.Peer() != i {
					t.Fatalf("link %d-%d says peers %d and %d", i, j, a.link.Peer(), b.link.Peer())
				}
				if a.link.Transport() == "" || a.link.Transport() != b.link.Transport() {
					t.Fatalf("the ends of a link are over %q and %q", a.link.Transport(), b.link.Transport())
				}
				ends = append(ends, a, b)
			}
		}
	}
	for i, e := range ends {
		e.post(transport.Message{Seq: start, Tag: uint32(i), Payload: e.payload(100, uint64(i))})
	}
	for i, e := range ends {
		await(t, "message", func() bool { return e.count(transport.Received) == 1 }, ends...)
		from := i ^ 1 // the ends of a link are neighbours in the list
		if tag := e.take(transport.Received)[0].Tag; tag != uint32(from) {
			t.Errorf("end %d got the message of end %d, not of %d", i, tag, from)
		}
		e.areas.check(t, 0, 100, uint64(from))
	}
}

// testHandOver uses one end from a new goroutine for each call.
func testHandOver(t *testing.T, impl Implementation) {
	a, b := newPair(t, impl, pairConfig{})
	elsewhere := func(f func()) {
		done := make(chan struct{})
		go func() { defer close(done); f() }()
		<-done
	}
	for i := range 50 {
		elsewhere(func() { a.link.Post(transport.Message{Seq: start, Payload: a.payload(1000, uint64(i))}) })
		await(t, "message", func() bool {
			elsewhere(func() { a.poll() })
			elsewhere(func() { b.poll() })
			return a.count(transport.Sent) == 1 && b.count(transport.Received) == 1
		})
		a.take(transport.Sent)
		b.take(transport.Received)
		b.areas.check(t, 0, 1000, uint64(i))
	}
}

// testAllocations measures a round of messages of several sizes both ways, with grants.
func testAllocations(t *testing.T, impl Implementation) {
	large := impl.bytes(100_000)
	a, b := newPair(t, impl, pairConfig{landings: []int{large}, window: 4})
	payloads := [][]byte{impl.memory(t, 100), impl.memory(t, large), nil}
	granted := item(64)
	ends := [2]*end{a, b}
	round := func() {
		for _, p := range payloads {
			for i, e := range ends {
				if err := e.link.Post(transport.Message{Seq: granted - 1, Payload: p}); err != nil {
					t.Fatal(err)
				}
				exchange(e, ends[1-i])
			}
		}
		granted++
		for _, e := range ends {
			e.link.Grant(granted)
			e.flush()
		}
		for deadline := time.Now().Add(patience); a.link.Limit() != granted || b.link.Limit() != granted; {
			a.poll()
			b.poll()
			if time.Now().After(deadline) {
				t.Fatalf("a grant has not gone over within %v", patience)
			}
		}
	}
	round()
	if n := testing.AllocsPerRun(20, round); n != 0 && !impl.Allocates {
		t.Errorf("a round of %d messages allocates %v times", 2*len(payloads), n)
	}
}

// exchange polls until one message has gone over.
func exchange(from, to *end) {
	deadline := time.Now().Add(patience)
	for sent, received := false, false; !sent || !received; {
		n, m := from.poll(), to.poll()
		sent, received = sent || n > 0, received || m > 0
		if time.Now().After(deadline) {
			from.t.Fatalf("a message has not gone over within %v", patience)
		}
	}
	from.events, to.events = from.events[:0], to.events[:0]
}
