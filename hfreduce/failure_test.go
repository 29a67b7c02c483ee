// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// failTogether runs f on every rank and checks that all get an error with the sentinel and the text, soon. It returns the errors.
func failTogether(t *testing.T, comms []*Comm, sentinel error, text string, f func(c *Comm) error) []error {
	t.Helper()
	errs := make([]error, len(comms))
	var wg sync.WaitGroup
	begin := time.Now()
	for r, c := range comms {
		wg.Go(func() { errs[r] = f(c) })
	}
	wg.Wait()
	if took := time.Since(begin); took > 20*time.Second { // far above what it takes, far below Options.Timeout
		t.Errorf("the errors took %v", took)
	}
	for r, err := range errs {
		if !errors.Is(err, sentinel) || !strings.Contains(err.Error(), text) {
			t.Errorf("rank %d: %v, want %v with %q", r, err, sentinel, text)
		}
		if again := comms[r].Barrier(context.Background()); !errors.Is(again, sentinel) {
			t.Errorf("rank %d: a later call returned %v, want the first cause", r, again)
		}
		if !comms[r].Stats().Broken {
			t.Errorf("rank %d: Stats do not say that the Comm is broken", r)
		}
	}
	return errs
}

func TestMissingRankIsNamed(t *testing.T) {
	for layout, nodeOf := range layouts {
		if len(nodeOf) == 1 {
			continue
		}
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			comms := newWorld(t, nodeOf, Options{Timeout: 200 * time.Millisecond})
			missing := len(comms) - 1
			failTogether(t, comms, ErrTimeout, "made no progress for 200ms", func(c *Comm) error {
				if c.Rank() == missing {
					<-c.life.Done() // comes too late
				}
				return c.Barrier(context.Background())
			})
		})
	}
}

func TestAbortReleasesEverybody(t *testing.T) {
	for layout, nodeOf := range layouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			comms := newWorld(t, nodeOf, Options{Timeout: 5 * time.Minute})
			failTogether(t, comms, ErrAborted, "rank 0: out of coffee", func(c *Comm) error {
				if c.Rank() == 0 {
					c.Abort(errors.New("out of coffee"))
				}
				return c.Barrier(context.Background())
			})
		})
	}
}

// TestEndedContextBreaksTheComm cancels one rank in the middle of a collective that cannot end.
func TestEndedContextBreaksTheComm(t *testing.T) {
	for layout, nodeOf := range layouts {
		if len(nodeOf) < 3 {
			continue
		}
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			comms := newWorld(t, nodeOf, Options{Timeout: 5 * time.Minute})
			ctx, cancel := context.WithCancel(context.Background())
			failTogether(t, comms, ErrAborted, "the context of Barrier", func(c *Comm) error {
				switch c.Rank() {
				case 0: // never comes, and ends rank 1's context once that is inside
					for c1 := comms[1]; c1.stats.started.Load() == 0; {
						runtime.Gosched()
					}
					cancel()
					<-c.life.Done()
				case 1:
					return c.Barrier(ctx)
				}
				return c.Barrier(context.Background())
			})
		})
	}
}

// TestLongCause: a cause that does not fit into a message reaches all ranks in part, and the same part.
func TestLongCause(t *testing.T) {
	comms := initWorld(t, blocks(2, 1), "127.0.0.1", Options{Transport: TransportTCP})
	comms[1].Abort(errors.New(strings.Repeat("<\u00e9>", 20_000)))
	for _, c := range comms {
		<-c.life.Done()
	}
	var told [2]*FaultError
	for r, c := range comms {
		if !errors.As(*c.cause.Load(), &told[r]) {
			t.Fatal(*c.cause.Load())
		}
	}
	if told[0].Text != told[1].Text || !strings.HasPrefix(told[0].Text, "rank 1: <\u00e9>") {
		t.Errorf("rank 0 heard %d bytes, rank 1 %d: %.100s", len(told[0].Text), len(told[1].Text), told[0].Text)
	}
}

// slowToTell is a fabric that takes its time to tell the other ranks.
type slowToTell struct{ fabric }

func (s slowToTell) tell(scope string, v verdict) {
	time.Sleep(50 * time.Millisecond)
	s.fabric.tell(scope, v)
}

// TestCloseWaitsUntilAllAreTold: Close of a Comm that another goroutine has just broken does not overtake the news: the other rank
// hears why, not that this one is gone.
func TestCloseWaitsUntilAllAreTold(t *testing.T) {
	for name, test := range map[string]struct {
		breaks func(c *Comm)
		want   error
	}{
		"aborted":      {func(c *Comm) { c.Abort(errors.New("enough")) }, ErrAborted},
		"judged alone": {func(c *Comm) { c.judgeAlone(report{Kind: verdictTimeout, Accused: -1, Text: "enough"}, nil) }, ErrTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			comms := newWorld(t, blocks(2, 2), Options{})
			each(t, comms, func(c *Comm) error { return c.Barrier(t.Context()) })
			comms[0].fabric.fabric = slowToTell{comms[0].fabric.fabric}
			waits := make(chan error, 1)
			go func() { waits <- comms[1].Barrier(context.Background()) }()
			go test.breaks(comms[0])
			<-comms[0].life.Done()
			if err := comms[0].Close(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-waits; !errors.Is(err, test.want) || !strings.Contains(err.Error(), "enough") {
				t.Errorf("rank 1's error is %v, want %v and the cause", err, test.want)
			}
		})
	}
}

// unheard is the fabric of a rank whose reports nobody judges.
type unheard struct{ fabric }

func (unheard) report(string, []int, report) {}

// TestNobodyJudges: without a verdict a rank breaks its Comm by what it has seen. If the rank that should judge is lost, that is why
// neighbours have given up.
func TestNobodyJudges(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("lost %t", lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newWorld(t, blocks(3, 3), Options{})[2]
				c.fabric.fabric = unheard{c.fabric.fabric}
				c.report(report{Kind: verdictTimeout, Accused: -1, Text: "lost the link to rank 1, which closed it"}, nil)
				want, text := ErrTimeout, "which should judge, does not answer"
				if lost {
					want, text = ErrPeerLost, "which should judge, is lost: its host does not answer; "
					c.heard("", verdict{Kind: noticeLost, Rank: 0, Text: "its host does not answer"})
				}
				<-c.life.Done()
				var fault *FaultError
				if err := context.Cause(c.life); !errors.Is(err, want) || !strings.Contains(err.Error(), text) || !errors.As(err, &fault) {
					t.Fatalf("got %v, want %v with %q", err, want, text)
				}
				if len(fault.Culprits) != 1 || fault.Culprits[0].Rank != 0 || fault.Culprits[0].Lost != lost {
					t.Errorf("the culprits are %+v", fault.Culprits)
				}
			})
		})
	}
}
