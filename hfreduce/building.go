// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// heardError is why a rank could not make its part of a communicator when that lies with another rank.
type heardError struct {
	error
	verdict verdict
}

// heardOf returns the error of what another rank says, or is said of it: of the same kind as there, if that is one to test for.
func heardOf(v verdict) heardError {
	if v.Kind == verdictTimeout || v.Kind == verdictLost {
		return heardError{fmt.Errorf("%w: %s", v.Kind.sentinel(), v.Text), v}
	}
	return heardError{errors.New(v.Text), v}
}

// Unwrap returns what was heard.
func (e heardError) Unwrap() error { return e.error }

// joinWithOthers makes this rank's part of the communicator. It ends when another member says that it cannot make its own, or is
// lost: this rank may be waiting for that very part.
func (c *Comm) joinWithOthers(ctx context.Context, key string) error {
	scope := key + "/building" // the UID is the scope of what those hear that have the communicator
	building, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := c.fabric.listen(func(s string, v verdict) {
		switch {
		case v.Rank == c.members[c.rank] || !slices.Contains(c.members, v.Rank):
		case v.Kind == noticeLost:
			cancel(heardOf(verdict{Kind: verdictLost, Rank: v.Rank, Text: fmt.Sprintf("%s: %s", c.nameOf(v.Rank), v.Text)}))
		case s == scope:
			cancel(heardOf(v))
		}
	})
	defer stop()
	err := c.join(building, key == worldKey)
	if err == nil {
		return nil
	}
	if heard, ok := context.Cause(building).(heardError); ok {
		return heard
	}
	c.fabric.tell(scope, c.blame(err))
	return err
}

// blame is what the others hear of an error that lies with this rank.
func (c *Comm) blame(err error) verdict {
	self := c.members[c.rank]
	v := verdict{Kind: verdictFault, Rank: self, Text: clipped(fmt.Sprintf("%s: %v", c.nameOf(self), err))}
	switch {
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		v.Kind = verdictTimeout
	case errors.Is(err, ErrPeerLost):
		v.Kind = verdictLost
	}
	return v
}

// nameOf names a member's process, given by its world rank.
func (c *Comm) nameOf(world int) string {
	i, _ := c.fabric.info(world)
	return nameOf(c.rankOf(world), i, "")
}

// confirm makes the building succeed on all ranks or on none.
func (c *Comm) confirm(ctx context.Context, key string, mine error) error {
	text := ""
	switch mine := mine.(type) {
	case nil:
	case heardError:
		text = mine.verdict.encode()
	default:
		text = c.blame(mine).encode()
	}
	all, err := c.fabric.exchange(ctx, key+"/joined", c.members, []byte(text))
	if mine != nil {
		return mine
	}
	if err != nil {
		return err
	}
	var failed []error
	for i, text := range all {
		if len(text) > 0 && !slices.ContainsFunc(all[:i], func(t []byte) bool { return string(t) == string(text) }) {
			failed = append(failed, heardOf(decodeVerdict(c.members[i], string(text))))
		}
	}
	return errors.Join(failed...)
}
