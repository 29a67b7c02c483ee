// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// patient is a link's health: it remembers when it was looked at, and breaks at a time.
type patient struct {
	looks []time.Duration // since begin
	begin time.Time
	dies  time.Duration // 0: never
}

var errDead = errors.New("dead")

func (p *patient) Alive(bound time.Duration) error {
	since := time.Since(p.begin)
	p.looks = append(p.looks, since)
	if p.dies > 0 && since >= p.dies+bound {
		return errDead
	}
	return nil
}

// TestWaitingRankLooksAtLinks lets a rank sleep for long, in pieces that others may cut short.
func TestWaitingRankLooksAtLinks(t *testing.T) {
	const s = time.Second
	quarters := []time.Duration{s / 4, s / 2, 3 * s / 4, s, 5 * s / 4, 3 * s / 2, 7 * s / 4, 2 * s}
	for _, c := range []struct {
		name                 string
		bound, timeout, rung time.Duration // rung: others wake the rank so often; 0: never
		looks                []time.Duration
	}{
		{"alone", 8 * s, 0, 0, quarters},
		{"with a short bound", s, 0, 0, quarters},
		{"often awake", 8 * s, 0, 150 * time.Millisecond, quarters},
		{"with a deadline that is farther", 8 * s, 3 * s, 0, quarters},
		{"with a nearer one", 8 * s, s / 4, 0, quarters},
		{"without a bound", 0, s, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &patient{begin: time.Now()}
				e := &Engine{cfg: Config{Silence: c.bound}, probers: []prober{{p, 3}}}
				var w watch
				for time.Since(p.begin) < 2*s+s/10 {
					nap, err := e.lookAtLinks(&w, c.timeout)
					if err != nil {
						t.Fatal(err)
					}
					if nap <= 0 || c.timeout > 0 && nap > c.timeout {
						t.Fatalf("may sleep for %v, asked for %v", nap, c.timeout)
					}
					if c.rung > 0 {
						nap = min(nap, c.rung)
					}
					time.Sleep(nap)
				}
				if !slices.Equal(p.looks, c.looks) {
					t.Errorf("looked at %v, want %v", p.looks, c.looks)
				}
			})
		})
	}
}

func TestDeadLinkIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		well, ill := &patient{begin: time.Now()}, &patient{begin: time.Now(), dies: 5 * time.Second}
		e := &Engine{cfg: Config{Silence: 8 * time.Second}, probers: []prober{{well, 3}, {ill, 7}}}
		var w watch
		for {
			nap, err := e.lookAtLinks(&w, 0)
			var link *LinkError
			if errors.As(err, &link) {
				if link.Rank != 7 || !errors.Is(err, errDead) || time.Since(ill.begin) != 13*time.Second {
					t.Errorf("after %v: %v", time.Since(ill.begin), err)
				}
				return
			}
			time.Sleep(nap)
		}
	})
}

// TestNoLinksNoLooks: a rank of a single node sleeps as long as it likes.
func TestNoLinksNoLooks(t *testing.T) {
	e, w := &Engine{cfg: Config{Silence: time.Second}}, watch{}
	if nap, err := e.lookAtLinks(&w, 0); nap != 0 || err != nil || !w.looked.IsZero() {
		t.Errorf("may sleep for %v, %v", nap, err)
	}
}
