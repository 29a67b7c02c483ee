// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// interrupted is the fabric of a rank that builds a communicator when another one is lost.
type interrupted struct {
	*processFabric
	shared   *sharedFabric
	kill     func()        // nil, or what is called before this rank says that it has joined
	reported chan struct{} // closed when this rank has reported the loss
	once     sync.Once
	built    *Comm // what reported it
}

func (f *interrupted) exchange(ctx context.Context, key string, members []int, mine []byte) ([][]byte, error) {
	if !strings.HasSuffix(key, "/joined") {
		return f.processFabric.exchange(ctx, key, members, mine)
	}
	if f.kill != nil {
		f.kill()
		<-f.reported // its connection has ended: the others cannot have its word any more
	}
	all, err := f.processFabric.exchange(ctx, key, members, mine)
	<-f.reported
	return all, err
}

func (f *interrupted) report(scope string, members []int, r report) {
	f.once.Do(func() {
		f.shared.mu.Lock()
		f.built = f.shared.comms[scope]
		f.shared.mu.Unlock()
		close(f.reported)
	})
	f.processFabric.report(scope, members, r)
}

// TestLossWhileBuilding: a rank is lost when the others have mapped their memory and listen, but have no communicator yet.
// What they report of it is judged, or not, when that memory is gone.
func TestLossWhileBuilding(t *testing.T) {
	comms := initWorld(t, blocks(3, 1), "127.0.0.1", Options{Transport: TransportTCP})
	fabrics := make([]*interrupted, len(comms))
	for r, c := range comms {
		fabrics[r] = &interrupted{processFabric: c.fabric.fabric.(*processFabric), shared: c.fabric, reported: make(chan struct{})}
		c.fabric.fabric = fabrics[r]
	}
	fabrics[2].kill = func() { fabrics[1].session.ReportGone(2, "it was shot") }
	each(t, comms, func(c *Comm) error {
		if _, err := c.Split(t.Context(), 0, 0); !errors.Is(err, ErrPeerLost) {
			return fmt.Errorf("rank %d: Split returned %v", c.Rank(), err)
		}
		return nil
	})
	for _, f := range fabrics {
		f.built.cause.Store(nil) // as if the verdict came only now
		f.built.breakWith(verdict{Kind: verdictLost, Rank: 2}, ErrPeerLost)
	}
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
