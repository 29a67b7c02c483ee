// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Shrink makes a new communicator of the ranks that are left after a fault, without a restart: every rank that lives calls it
// on the broken Comm, and those that come get one, ranked in the old order. It waits for ranks that live and have not come
// yet until ctx ends, less a quarter of its time for what follows, or else for Options.InitTimeout; who comes later gets
// ErrPeerLost. If another rank is lost meanwhile it returns an error, and can be called again; not after it has returned a Comm.
//
// The input of the collective that failed is untouched unless it was in place, so it can be given to the new communicator.
// The old one stays broken, and is closed by Close as any other.
//
// A partition leaves two parts whose ranks take each other for lost, and each may shrink to itself: who must not let two jobs
// go on looks at WorldSize.
func (c *Comm) Shrink(ctx context.Context) (*Comm, error) {
	if c.closed.Load() {
		return nil, &OpError{Op: "Shrink", Rank: c.rank, Err: ErrClosed}
	}
	if c.cause.Load() == nil {
		return nil, &OpError{Op: "Shrink", Rank: c.rank, Err: invalidf("the communicator is not broken; Split makes a smaller one of it")}
	}
	if c.shrinking.Swap(true) {
		return nil, &OpError{Op: "Shrink", Rank: c.rank, Err: invalidf("Shrink has been called: a communicator shrinks once, and the new one if that breaks")}
	}
	left, err := c.shrink(ctx)
	if err != nil {
		c.shrinking.Store(false)
		return nil, &OpError{Op: "Shrink", Rank: c.rank, Err: err}
	}
	return left, nil
}

// forever is how long a roll call waits where nothing bounds it.
const forever = 24 * time.Hour

func (c *Comm) shrink(ctx context.Context) (*Comm, error) {
	if err := c.queue.drain(ctx); err != nil { // they end by themselves: the Comm is broken
		return nil, fmt.Errorf("a collective of the broken communicator has not ended: %w", err)
	}
	patience := forever
	if c.opts.InitTimeout > 0 {
		patience = c.opts.InitTimeout
	}
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)*3/4)
	}
	key := c.uid + "/shrink"
	members, epoch, err := c.fabric.rollCall(ctx, key, c.members, patience)
	if err != nil {
		return nil, err
	}
	rank := slices.Index(members, c.members[c.rank])
	if rank < 0 {
		return nil, fmt.Errorf("%w: the other ranks have gone on without this one", ErrPeerLost)
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	return c.derive(ctx, fmt.Sprintf("%s/%d", key, epoch), members, rank)
}

// bounded returns a context that also ends after Options.InitTimeout.
func (c *Comm) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.opts.InitTimeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, c.opts.InitTimeout, fmt.Errorf("%w: the ranks did not meet within InitTimeout %v", ErrTimeout, c.opts.InitTimeout))
}
