// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"errors"
	"fmt"
	"testing"
)

// A rank whose process another rank saw end is lost at once, although its connection is open; who says so twice, or says it of
// a rank that has closed, changes nothing.
func TestReportGone(t *testing.T) {
	ss := world(t, job(t, 5))
	zero, one := watch(ss[0]), watch(ss[1])
	ctx := t.Context()
	if err := ss[4].Close(ctx); err != nil {
		t.Fatal(err)
	}
	ss[1].ReportGone(4, "too late")
	ss[1].ReportGone(2, "its process has ended")
	ss[1].ReportGone(2, "again")
	ss[1].send(abortFrame(kindGone, 0, "", "the hub knows better"))
	ss[1].Abort("scope", "after it") // comes after them
	for rank, c := range []chan Event{zero, one} {
		e := next(t, c)
		if e.Kind != PeerLost || e.Rank != 2 || e.Text != "its process has ended" {
			t.Errorf("rank %d: %+v", rank, e)
		}
	}
	if e := next(t, zero); e.Kind != Abort || e.Rank != 1 {
		t.Errorf("after the loss: %+v", e)
	}
	if e := next(t, watch(ss[2])); e.Kind != PeerLost || e.Rank != 0 { // it was cut off
		t.Errorf("rank 2: %+v", e)
	}
	_, err := ss[1].Exchange(ctx, "with it", []int{1, 2}, nil)
	if mustContain(t, err, "rank 2 (pid", "is lost: its process has ended"); !errors.Is(err, ErrPeerLost) {
		t.Errorf("%v is no ErrPeerLost", err)
	}
	mustExchange(t, []*Session{ss[0], ss[1], ss[3]}, "without it", []int{0, 1, 3})
}

// Of the end of the hub, whose connections are open still, nobody can be told by it. Whichever rank saw it, all others leave the
// hub with it and have a new one.
func TestReportHubGone(t *testing.T) {
	for _, witness := range []int{1, 2, 3} { // 1 is the next hub
		t.Run(fmt.Sprint("rank ", witness, " saw it"), func(t *testing.T) {
			ss := world(t, job(t, 4))
			left := ss[1:]
			var events []chan Event
			for _, s := range left {
				events = append(events, watch(s))
			}
			ss[0].hub.mu.Lock() // from here on it is dead, with its connections open
			defer ss[0].hub.mu.Unlock()
			ss[witness].ReportGone(0, "its process has ended")
			for i, c := range events {
				if e := next(t, c); e.Kind != PeerLost || e.Rank != 0 || e.Text != "its process has ended" {
					t.Errorf("rank %d: %+v", i+1, e)
				}
			}
			mustExchange(t, left, "with the new one", []int{1, 2, 3})
			for _, s := range left {
				if s.Hub() != 1 {
					t.Errorf("rank %d: the hub is rank %d", s.rank, s.Hub())
				}
			}
		})
	}
}

// Who comes over because it lost its connection has not seen the hub end: nobody follows it.
func TestNobodyFollowsALostConnection(t *testing.T) {
	ss := world(t, job(t, 4))
	one := watch(ss[1])
	ss[1].mu.Lock()
	ss[1].wire.expire(errors.New("cut"))
	ss[1].mu.Unlock()
	if e := next(t, one); e.Kind != PeerLost || e.Rank != 0 || e.Text != "cut" {
		t.Errorf("got %+v", e)
	}
	mustExchange(t, []*Session{ss[0], ss[2], ss[3]}, "without it", []int{0, 2, 3})
}

// Nobody reports himself, or a rank that does not exist: what does is not of this program.
func TestReportGoneWrong(t *testing.T) {
	for name, gone := range map[string]int{"itself": 1, "no rank": 3} {
		t.Run(name, func(t *testing.T) {
			ss := world(t, job(t, 3))
			c := watch(ss[2])
			ss[1].wire.send(abortFrame(kindGone, gone, "", "x"))
			if e := next(t, c); e.Kind != PeerLost || e.Rank != 1 {
				t.Errorf("got %+v", e)
			}
		})
	}
}
