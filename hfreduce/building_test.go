// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// interrupted is a fabric that calls a function before this rank says that it has joined, and is slow to take the answer.
type interrupted struct {
	*processFabric
	joined func()
	after  func() // nil, or what is called when all have
}

func (f *interrupted) exchange(ctx context.Context, key string, members []int, mine []byte) ([][]byte, error) {
	if strings.HasSuffix(key, "/joined") {
		f.joined()
		if f.after != nil {
			defer f.after()
		}
	}
	return f.processFabric.exchange(ctx, key, members, mine)
}

// TestLossWhileBuilding: a rank is lost when the others have mapped their memory and listen, but have no communicator yet.
// What they report of it is judged, or not, when that memory is gone.
func TestLossWhileBuilding(t *testing.T) {
	comms := initWorld(t, blocks(3, 1), "127.0.0.1", Options{Transport: TransportTCP})
	for _, c := range comms {
		p := c.fabric.fabric.(*processFabric)
		f := &interrupted{p, func() {}, func() { time.Sleep(100 * time.Millisecond) }}
		if c.Rank() == 2 {
			f.joined = func() { comms[1].fabric.fabric.(*interrupted).session.ReportGone(2, "it was shot") }
		}
		c.fabric.fabric = f
	}
	each(t, comms, func(c *Comm) error {
		if _, err := c.Split(t.Context(), 0, 0); !errors.Is(err, ErrPeerLost) {
			return fmt.Errorf("rank %d: Split returned %v", c.Rank(), err)
		}
		return nil
	})
	time.Sleep(verdictWait + 300*time.Millisecond)
}

// late is a fabric on which a rank's time is over when all have joined.
type late struct {
	fabric
	over func()
}

func (f *late) exchange(ctx context.Context, key string, members []int, mine []byte) ([][]byte, error) {
	all, err := f.fabric.exchange(ctx, key, members, mine)
	if strings.HasSuffix(key, "/joined") {
		f.over()
		return nil, ctx.Err()
	}
	return all, err
}

// TestOneDoesNotGetIt: the others, which have the communicator, hear that one has not.
func TestOneDoesNotGetIt(t *testing.T) {
	comms := newWorld(t, blocks(3, 1), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	comms[1].fabric.fabric = &late{comms[1].fabric.fabric, cancel}
	each(t, comms, func(c *Comm) error {
		if c.Rank() == 1 {
			if _, err := c.Split(ctx, 0, 0); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("Split returned %v", err)
			}
			return nil
		}
		sub, err := c.Split(t.Context(), 0, 0)
		if err != nil {
			return err
		}
		defer sub.Close(t.Context())
		if err := sub.Barrier(t.Context()); !errors.Is(err, ErrAborted) || !strings.Contains(err.Error(), "did not get the communicator") {
			return fmt.Errorf("rank %d: Barrier returned %v", c.Rank(), err)
		}
		return nil
	})
}
