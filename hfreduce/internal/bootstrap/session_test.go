// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestExchangeSizes(t *testing.T) {
	ss := world(t, job(t, 3))
	for _, n := range []int{0, 1, 1000, 70_000, maxBlob} {
		var wg sync.WaitGroup
		for _, s := range ss {
			wg.Go(func() {
				mine := bytes.Repeat([]byte{byte('a' + s.rank)}, n)
				parts, err := s.Exchange(t.Context(), fmt.Sprint("size ", n), []int{2, 0, 1}, mine)
				if err != nil {
					t.Errorf("%d bytes: %v", n, err)
					return
				}
				for i, m := range []int{2, 0, 1} {
					if !bytes.Equal(parts[i], bytes.Repeat([]byte{byte('a' + m)}, n)) {
						t.Errorf("%d bytes: wrong part of rank %d", n, m)
					}
				}
			})
		}
		wg.Wait()
	}
}

// Many exchanges of different subsets run at once; disjoint subsets may use one key.
func TestExchangeSubsets(t *testing.T) {
	ss := world(t, job(t, 8))
	pick := func(members ...int) (some []*Session) {
		for _, m := range members {
			some = append(some, ss[m])
		}
		return some
	}
	var wg sync.WaitGroup
	for i := range 20 {
		for _, members := range [][]int{{0, 1, 2, 3}, {4, 5, 6, 7}} {
			wg.Go(func() { mustExchange(t, pick(members...), fmt.Sprint("half ", i), members) })
		}
		for _, members := range [][]int{{7, 0}, {1, 3, 5}, {2}, {0, 1, 2, 3, 4, 5, 6, 7}} {
			wg.Go(func() { mustExchange(t, pick(members...), fmt.Sprint(members, i), members) })
		}
	}
	wg.Wait()
}

func TestExchangeInvalid(t *testing.T) {
	ss := world(t, job(t, 2))
	mustExchange(t, ss, "once", []int{0, 1})
	cases := []struct {
		name, key string
		members   []int
		mine      []byte
		text      string
	}{
		{"no key", "", []int{0, 1}, nil, "the key has 0 bytes"},
		{"long key", strings.Repeat("k", maxKey+1), []int{0, 1}, nil, "the key has 257 bytes"},
		{"used key", "once", []int{0, 1}, nil, "the key was used before"},
		{"part too large", "k", []int{0, 1}, make([]byte, maxBlob+1), "at most 1048576 are allowed"},
		{"not a member", "k", []int{1}, nil, "rank 0 itself is not a member"},
		{"no members", "k", nil, nil, "rank 0 itself is not a member"},
		{"twice a member", "k", []int{0, 1, 1}, nil, "member 1 is listed twice"},
		{"beyond the world", "k", []int{0, 2}, nil, "member 2 is listed twice or not within 0..1"},
	}
	for _, c := range cases {
		_, err := ss[0].Exchange(t.Context(), c.key, c.members, c.mine)
		mustContain(t, err, "bootstrap: exchange", c.text)
	}
	mustExchange(t, ss, "k", []int{0, 1}) // nothing of it did harm
}

func TestExchangeMembersDiffer(t *testing.T) {
	ss := world(t, job(t, 3))
	lists := [][]int{{0, 1, 2}, {1, 0, 2}, {0, 1, 2}}
	errs := make(chan error)
	for _, rank := range []int{0, 1} {
		go func() { _, err := ss[rank].Exchange(t.Context(), "k", lists[rank], nil); errs <- err }()
	}
	for range 2 {
		err := <-errs
		mustContain(t, err, "as members, others list", "is in both")
		if !errors.Is(err, ErrMismatch) {
			t.Errorf("%v is no ErrMismatch", err)
		}
	}
}

func TestExchangeCancelled(t *testing.T) {
	ss := world(t, job(t, 3))
	all := []int{0, 1, 2}
	for rank, missing := range []string{"ranks 1, 2", "rank 2"} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := ss[rank].Exchange(ctx, "k", all, nil)
		mustContain(t, err, fmt.Sprintf(`exchange "k" of ranks 0-2 on rank %d: waiting for %s: `, rank, missing))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	if parts, err := ss[2].Exchange(t.Context(), "k", all, nil); err != nil || len(parts) != 3 { // what the others gave is there
		t.Errorf("the last one got %d parts, %v", len(parts), err)
	}
	mustExchange(t, ss, "next", all)
}

// TestExchangeGivenUpWhenItEnds: the result may come when the caller's time is over, and is no failure then.
func TestExchangeGivenUpWhenItEnds(t *testing.T) {
	ss := world(t, job(t, 2))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 20 {
		key, first := fmt.Sprint(i), make(chan error, 1)
		go func() { _, err := ss[1].Exchange(t.Context(), key, []int{0, 1}, nil); first <- err }()
		parts, err := ss[0].Exchange(ctx, key, []int{0, 1}, nil)
		if err == nil && len(parts) != 2 || err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("got %d parts, %v", len(parts), err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	}
}

func TestExchangeMemberGone(t *testing.T) {
	for _, c := range []struct {
		name  string
		leave func(*Session)
		is    error
		text  string
	}{
		{"lost", func(s *Session) { s.cut() }, ErrPeerLost, "is lost: its connection ended without a goodbye"},
		{"closed", func(s *Session) { s.Close(context.Background()) }, ErrClosed, "has closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ss := world(t, job(t, 3))
			waiting := make(chan error)
			go func() { _, err := ss[0].Exchange(t.Context(), "before", []int{0, 1, 2}, nil); waiting <- err }()
			go func() { _, err := ss[1].Exchange(t.Context(), "before", []int{0, 1, 2}, nil); waiting <- err }()
			c.leave(ss[2])
			first, second := <-waiting, <-waiting
			_, after := ss[1].Exchange(t.Context(), "after", []int{1, 2}, nil)
			for _, err := range []error{first, second, after} {
				mustContain(t, err, "rank 2 (pid", c.text)
				if !errors.Is(err, c.is) {
					t.Errorf("%v is not %v", err, c.is)
				}
			}
			mustExchange(t, ss[:2], "the others", []int{0, 1})
		})
	}
}

func TestAbort(t *testing.T) {
	ss := world(t, job(t, 5))
	var watches []chan Event
	for _, s := range ss {
		watches = append(watches, watch(s))
	}
	for from, s := range ss {
		s.Abort("comm 7", fmt.Sprint("cause ", from))
		want := Event{Kind: Abort, Rank: from, Host: hostName(), PID: os.Getpid(), Scope: "comm 7", Text: fmt.Sprint("cause ", from)}
		for rank, c := range watches {
			if rank != from {
				if got := next(t, c); got != want {
					t.Errorf("rank %d got %+v, want %+v", rank, got, want)
				}
			}
		}
	}
	for rank, c := range watches { // nobody hears himself
		if len(c) > 0 {
			t.Errorf("rank %d got another %+v", rank, <-c)
		}
	}
	ss[1].Abort(strings.Repeat("s", 1000), strings.Repeat("t", maxText+1))
	if e := next(t, watches[0]); len(e.Scope) != maxScope || len(e.Text) != maxText {
		t.Errorf("a long text came as %d and %d bytes", len(e.Scope), len(e.Text))
	}
}

func TestPeerLost(t *testing.T) {
	ss := world(t, job(t, 4))
	var watches []chan Event
	for _, s := range ss {
		watches = append(watches, watch(s))
	}
	ss[2].cut()
	want := Event{Kind: PeerLost, Rank: 2, Host: hostName(), PID: os.Getpid(), Text: "its connection ended without a goodbye"}
	for _, rank := range []int{0, 1, 3} {
		if got := next(t, watches[rank]); got != want {
			t.Errorf("rank %d got %+v, want %+v", rank, got, want)
		}
	}
	ss[3].Abort("s", "t")
	ss[3].Close(context.Background()) // a goodbye is no loss
	late := watch(ss[1])
	for _, kind := range []EventKind{PeerLost, Abort} { // late subscribers miss nothing
		if e := next(t, late); e.Kind != kind {
			t.Errorf("the late subscriber got %+v, want %v", e, kind)
		}
	}
	mustExchange(t, ss[:2], "the others", []int{0, 1})
	if len(late) > 0 {
		t.Errorf("and then %+v", <-late)
	}
}

func TestRankZeroLost(t *testing.T) {
	ss := world(t, job(t, 3))
	waiting := make(chan error)
	go func() { _, err := ss[1].Exchange(t.Context(), "k", []int{1, 2}, nil); waiting <- err }()
	ss[0].cut()
	for _, s := range ss[1:] {
		c := watch(s)
		if e := next(t, c); e.Kind != PeerLost || e.Rank != 0 || e.PID != os.Getpid() {
			t.Errorf("got %+v", e)
		}
		s.Abort("s", "perhaps into the void")
	}
	// Nobody knows whether others have the outcome of what was under way; what begins later goes to the next hub.
	err := <-waiting
	if mustContain(t, err, "rank 0 (pid", "the control channel"); !errors.Is(err, ErrPeerLost) {
		t.Errorf("got %v", err)
	}
	mustCallRoll(t, ss[1:], "there", []int{1, 2})
	mustExchange(t, ss[1:], "later", []int{1, 2})
	for _, err := range closeAll(ss[1:]) {
		if err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func TestSubscribeCancel(t *testing.T) {
	ss := world(t, job(t, 2))
	var calls int // only touched by the session's goroutine, and after cancel by nobody
	cancel := ss[0].Subscribe(func(Event) { calls++ })
	kept := watch(ss[0])
	cancel()
	cancel() // harmless
	ss[1].Abort("", "")
	next(t, kept)
	if calls != 0 {
		t.Errorf("%d calls after cancel", calls)
	}
}

func TestClose(t *testing.T) {
	ss := world(t, job(t, 4))
	events := watch(ss[3])
	if err := ss[1].Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := ss[1].Close(t.Context()); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := ss[1].Exchange(t.Context(), "k", []int{1}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("exchange after close: %v", err)
	}
	ss[1].Abort("", "into the void")
	zero := make(chan error)
	go func() { zero <- ss[0].Close(context.Background()) }() // waits for 2 and 3
	mustExchange(t, ss[2:], "the hub still works", []int{2, 3})
	for _, s := range ss[2:] {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := <-zero; err != nil {
		t.Error(err)
	}
	if len(events) > 0 {
		t.Errorf("a clean end gave %+v", <-events)
	}
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	ss := world(t, job(t, 4))
	two, three := watch(ss[2]), watch(ss[3])
	if err := ss[1].Close(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := ss[0].Close(ctx)
	mustContain(t, err, "rank 0 closed before the goodbye of ranks 2, 3")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for _, c := range []chan Event{two, three} {
		if e := next(t, c); e.Kind != PeerLost || e.Rank != 0 || e.Text != errGoodbye.Error() {
			t.Errorf("got %+v", e)
		}
	}
}

// A subscriber that never returns cannot keep Close from ending.
func TestCloseWithBlockedSubscriber(t *testing.T) {
	ss := world(t, job(t, 2))
	entered, release := make(chan struct{}), make(chan struct{})
	ss[0].Subscribe(func(Event) { close(entered); <-release })
	ss[1].Abort("", "")
	<-entered
	ss[1].Close(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ss[0].Close(ctx); err != nil {
		t.Error(err)
	}
	close(release)
}

// Everything a job opened is gone when it is closed, also when it failed.
func TestNothingIsLeft(t *testing.T) {
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	run := func() {
		closeAll(world(t, job(t, 8)))
		cfg := job(t, 3)
		joinAll(t.Context(), cfg.rankOf(0), cfg.rankOf(1), cfg.rankOf(1))
	}
	run() // the first use opens the poller
	openBefore, running := files(), goleak.IgnoreCurrent()
	for range 3 {
		run()
	}
	if now := files(); now > openBefore {
		t.Errorf("%d files open, before it were %d", now, openBefore)
	}
	goleak.VerifyNone(t, running)
}
