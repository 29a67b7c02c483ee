// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// end is one end of a link under test, with an area for each item.
type end struct {
	t        testing.TB
	link     transport.Link
	bell     wait.Bell
	landings [][]byte
	events   []transport.Event
	hits     []Hit
}

const (
	areas     = 64
	areaBytes = 1024
)

// pairOver returns the ends of a link from rank 0 to rank 1, both with the plan. Items before areas are granted.
func pairOver(t testing.TB, text string, world func(testing.TB, int) []transport.Transport, newBell func(testing.TB) wait.Bell) [2]*end {
	ts, plan := world(t, 2), mustParse(t, text)
	var ends [2]*end
	connected := make(chan error, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for r := range ends {
		e := &end{t: t, bell: newBell(t)}
		for range areas {
			e.landings = append(e.landings, make([]byte, areaBytes))
		}
		ends[r] = e
		faulty := New(ts[r], Config{Plan: plan, Rank: r, Hit: func(h Hit) { e.hits = append(e.hits, h) }})
		go func() {
			var err error
			e.link, err = faulty.Connect(ctx, 1-r, "pair", transport.LinkConfig{Landings: e.landings, Bell: e.bell, Window: areas, MaxPosts: areas})
			connected <- err
		}()
	}
	for range ends {
		if err := <-connected; err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range ends {
		e.link.Grant(areas)
		if err := e.link.Flush(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.link.Close() })
	}
	for _, e := range ends {
		e.until("grants", func() bool { return e.link.Limit() == areas })
	}
	return ends
}

func memPair(t testing.TB, text string) [2]*end { return pairOver(t, text, memWorld, chanBell) }

// post posts message number n, of item n to area n.
func (e *end) post(n int) {
	e.t.Helper()
	if err := e.link.Post(message(n)); err != nil {
		e.t.Fatalf("post of message %d: %v", n, err)
	}
}

func message(n int) transport.Message {
	return transport.Message{Landing: uint32(n), Seq: uint32(n), Tag: uint32(7 * n), Sum: uint32(9 * n), Payload: bytes.Repeat([]byte{byte(n + 1)}, areaBytes)}
}

// poll polls once and returns whether there were events.
func (e *end) poll() (bool, error) {
	var ev [8]transport.Event
	n, err := e.link.Poll(ev[:])
	e.events = append(e.events, ev[:n]...)
	return n > 0, err
}

// until works and sleeps as the owner of a link does until the condition holds.
func (e *end) until(what string, condition func() bool) {
	e.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !condition() {
		e.bell.Arm()
		moved, err := e.poll()
		if err != nil {
			e.t.Fatalf("%s: %v", what, err)
		}
		if moved || condition() {
			e.bell.Disarm()
			continue
		}
		if left := time.Until(deadline); left <= 0 || !e.bell.Sleep(left) {
			e.t.Fatalf("%s: not within a minute; events %v", what, e.events)
		}
	}
}

// failure works until the link's error comes.
func (e *end) failure() (err error) {
	e.t.Helper()
	for deadline := time.Now().Add(time.Minute); err == nil; {
		e.bell.Arm()
		moved := false
		if moved, err = e.poll(); moved || err != nil {
			e.bell.Disarm()
			continue
		}
		if left := time.Until(deadline); left <= 0 || !e.bell.Sleep(left) {
			e.t.Fatal("no error within a minute")
		}
	}
	return err
}

// of returns the items of the events of a kind.
func (e *end) of(kind transport.EventKind) []uint32 {
	items := []uint32{}
	for _, ev := range e.events {
		if ev.Kind == kind {
			items = append(items, ev.Seq)
		}
	}
	return items
}

// count returns how many events of a kind there were.
func (e *end) count(kind transport.EventKind) int { return len(e.of(kind)) }

// quiet polls a few times and checks that nothing comes.
func (e *end) quiet() {
	e.t.Helper()
	for range 20 {
		if moved, err := e.poll(); moved || err != nil {
			e.t.Fatalf("events %v, error %v; nothing was to come", e.events, err)
		}
	}
}

// intact reports whether message n lies in its area.
func (e *end) intact(n int) bool { return bytes.Equal(e.landings[n], message(n).Payload) }

// checkBroken checks the error of a link that an injected fault, or the peer's, broke.
func checkBroken(t testing.TB, e *end, text string) {
	t.Helper()
	err := e.failure()
	var pe *transport.PeerError
	if !errors.Is(err, transport.ErrPeerLost) || !errors.As(err, &pe) || pe.Peer != e.link.Peer() || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want a PeerError of rank %d with %q", err, e.link.Peer(), text)
	}
	if errors.Is(err, transport.ErrPeerClosed) {
		t.Errorf("a break looks like a close: %v", err)
	}
	if _, again := e.poll(); again != err {
		t.Errorf("the error is not sticky: %v, then %v", err, again)
	}
	if perr := e.link.Post(message(areas - 1)); !errors.Is(perr, transport.ErrPeerLost) {
		t.Errorf("post on a broken link: %v", perr)
	}
}
