// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"fmt"
	"time"
)

// Report tells the hub of a fault in something that members share (scope). The hub asks every member what it knows, has
// Config.Judge decide, and tells all members the same: an Event of kind Verdict, on this rank too. It does not block. Only
// the first report of a scope counts. If the hub is lost, whoever takes its place gets the report.
func (s *Session) Report(scope string, members []int, text string) {
	frame := reportFrame(&Case{Scope: scope, Reporter: s.rank, Members: members, Report: text})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.judged[scope] {
		return
	}
	s.reports[scope] = frame
	if s.wire != nil {
		s.wire.send(frame)
	}
}

// Answer sets the function that answers the hub's questions: what this rank knows of what was reported in a scope. Each call
// is on a goroutine of its own and should take much less than half a second.
func (s *Session) Answer(f func(scope, report string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = f
}

// asked answers the hub. What it asks about is reported to the next hub if this one is lost before there is a verdict, or has
// told it to others only.
func (s *Session) asked(body []byte) error {
	id, c, err := parseInquiry(body)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.reports[c.Scope] == nil && !s.judged[c.Scope] {
		s.reports[c.Scope] = reportFrame(&c)
	}
	f, w := s.answers, s.wire
	s.mu.Unlock()
	s.wg.Go(func() {
		text := ""
		if f != nil {
			text = f(c.Scope, c.Report)
		}
		if w != nil {
			w.send(answerFrame(id, text))
		}
	})
	return nil
}

// Hub returns the rank that is the hub now: rank 0, until it is lost.
func (s *Session) Hub() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hubRank
}

// Roll is the outcome of a roll call.
type Roll struct {
	Epoch int      // tells the roll calls of one key apart, the same on all ranks
	Ranks []int    // who came, in the members' order
	Parts [][]byte // what they gave
}

// calling is a roll call in flight.
type calling struct {
	frame []byte
	done  chan calledRoll
}

type calledRoll struct {
	roll    Roll
	failure *failure
}

// RollCall finds out which of the members go on together: it ends when all that are neither lost nor closed have called it,
// or when the patience of the first to come ends, without those who have not come by then. A rank that comes after the end
// gets ErrPeerLost, unless it was there; then it begins the next roll call of the key, of those who were. It also ends with
// ctx, unless the roll call has ended with this rank just then.
func (s *Session) RollCall(ctx context.Context, key string, members []int, patience time.Duration, mine []byte) (Roll, error) {
	if ctx.Err() != nil {
		return Roll{}, fmt.Errorf("bootstrap: roll call %q on rank %d: %w", key, s.rank, context.Cause(ctx))
	}
	if err := checkMembers(s.rank, len(s.peers), members); err != nil { // the hub would take that for garbage
		return Roll{}, err
	}
	c := &calling{frame: rollCallFrame(key, members, patience, mine), done: make(chan calledRoll, 1)}
	s.mu.Lock()
	var err error
	switch {
	case s.closing:
		err = ErrClosed
	case s.broken != nil:
		err = s.broken
	case s.calls[key] != nil:
		err = fmt.Errorf("%w: the key is in use", ErrMismatch)
	default:
		s.calls[key] = c
		if s.wire != nil {
			s.wire.send(c.frame)
		}
	}
	s.mu.Unlock()
	if err != nil {
		return Roll{}, fmt.Errorf("bootstrap: roll call %q on rank %d: %w", key, s.rank, err)
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.calls[key] == c {
			delete(s.calls, key)
		}
	}()
	var r calledRoll
	select {
	case r = <-c.done:
	case <-ctx.Done():
		r = s.withdraw(key, c)
		if r.failure != nil {
			return Roll{}, fmt.Errorf("bootstrap: roll call %q on rank %d: %w", key, s.rank, context.Cause(ctx))
		}
	}
	if r.failure != nil {
		return Roll{}, fmt.Errorf("bootstrap: roll call %q on rank %d: %w", key, s.rank, r.failure)
	}
	return r.roll, nil
}

// withdraw makes the others go on without this rank, unless they have gone on with it.
func (s *Session) withdraw(key string, c *calling) calledRoll {
	s.send(keyFrame(kindWithdraw, key))
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case r := <-c.done:
		return r
	case <-timer.C: // there is no hub, or it is stopped
		return calledRoll{failure: failuref(codeOther, "no answer")}
	}
}

// called takes the outcome of a roll call.
func (s *Session) called(body []byte) error {
	key, f, roll, err := parseRoll(body)
	if err != nil {
		return err
	}
	for _, r := range roll.Ranks {
		if r >= len(s.peers) {
			return fmt.Errorf("%w: rank %d", errFrame, r)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[key]; c != nil {
		delete(s.calls, key)
		c.done <- calledRoll{roll, f}
	}
	return nil
}
