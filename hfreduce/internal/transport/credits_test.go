// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"errors"
	"io"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestBeforeWraps(t *testing.T) {
	for _, c := range []struct {
		a, b uint32
		want bool
	}{
		{0, 0, false}, {0, 1, true}, {1, 0, false},
		{math.MaxUint32, 0, true}, {0, math.MaxUint32, false},
		{math.MaxUint32 - 3, 4, true}, {1 << 31, 1<<31 + 1, true},
	} {
		if got := Before(c.a, c.b); got != c.want {
			t.Errorf("Before(%d, %d) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestCreditsDue(t *testing.T) {
	for _, c := range []struct {
		window, step uint32
		due          bool
	}{
		{0, 1, true}, {1, 1, true}, {2, 1, true}, {3, 1, true}, {4, 1, false}, {4, 2, true}, {8, 3, false}, {8, 4, true},
	} {
		b := NewCredits(&LinkConfig{Window: c.window, Start: math.MaxUint32 - 1})
		if b.Due() {
			t.Errorf("window %d: a new book is due", c.window)
		}
		b.Grant(b.Granted() + c.step)
		if b.Due() != c.due {
			t.Errorf("window %d: due after %d items: %v, want %v", c.window, c.step, b.Due(), c.due)
		}
		b.Force()
		if !b.Due() {
			t.Errorf("window %d: not due after Force", c.window)
		}
		b.Told(b.Granted())
		if b.Due() {
			t.Errorf("window %d: due after it was told", c.window)
		}
		b.Force()
		if b.Due() {
			t.Errorf("window %d: Force of nothing is due", c.window)
		}
	}
}

// TestCreditsModel compares the book with one that counts in 64 bits and so never wraps.
func TestCreditsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Uint64Range(1<<32-100, 1<<32+100).Draw(t, "start")
		window := rapid.Uint32Range(0, 16).Draw(t, "window")
		b := NewCredits(&LinkConfig{Window: window, Start: uint32(start)})
		granted, limit := start, start
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			to := rapid.Uint64Range(start-50, granted+50).Draw(t, "to")
			if rapid.Bool().Draw(t, "own") {
				b.Grant(uint32(to))
				granted = max(granted, to)
			} else if ok := b.Heard(uint32(to)); ok != (to >= limit) {
				t.Fatalf("Heard(%d) after %d: %v", to, limit, ok)
			} else if ok {
				limit = to
			}
			seq := rapid.Uint64Range(start-10, granted+10).Draw(t, "seq")
			if b.MayReceive(uint32(seq)) != (seq < granted) || b.MayPost(uint32(seq)) != (seq < limit) {
				t.Fatalf("seq %d: may receive %v post %v, granted %d limit %d", seq, b.MayReceive(uint32(seq)), b.MayPost(uint32(seq)), granted, limit)
			}
			if b.Granted() != uint32(granted) || b.Limit() != uint32(limit) {
				t.Fatalf("book says %d and %d, model %d and %d", b.Granted(), b.Limit(), granted, limit)
			}
		}
	})
}

func TestPeerErrorWraps(t *testing.T) {
	err := error(&PeerError{Peer: 3, Transport: "tcp", Addr: "10.0.0.3:4711", Err: io.ErrUnexpectedEOF})
	if !errors.Is(err, ErrPeerLost) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrPeerClosed) {
		t.Errorf("%v wraps the wrong errors", err)
	}
	if want := "transport: peer lost: rank 3 (tcp 10.0.0.3:4711): unexpected EOF"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestEventKindString(t *testing.T) {
	if Sent.String() != "sent" || Received.String() != "received" || EventKind(0).String() != "invalid event" {
		t.Error("names are wrong")
	}
}

func TestLinkConfigPosts(t *testing.T) {
	if got := (&LinkConfig{}).Posts(); got != DefaultMaxPosts {
		t.Errorf("default is %d", got)
	}
	if got := (&LinkConfig{MaxPosts: 3}).Posts(); got != 3 {
		t.Errorf("3 became %d", got)
	}
}
