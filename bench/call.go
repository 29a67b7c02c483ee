// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// call is one collective on one rank's buffers, ready to be made again and again.
type call struct {
	collective Collective
	comm       *hfreduce.Comm
	op         hfreduce.Op
	root       int
	dst, src   hfreduce.Buffer
}

// run makes the call and waits for it.
func (c *call) run(ctx context.Context) error {
	switch c.collective {
	case AllReduce:
		return c.comm.AllReduce(ctx, c.dst, c.src, c.op)
	case Reduce:
		return c.comm.Reduce(ctx, c.dst, c.src, c.op, c.root)
	case Broadcast:
		return c.comm.Broadcast(ctx, c.dst, c.src, c.root)
	case ReduceScatter:
		return c.comm.ReduceScatter(ctx, c.dst, c.src, c.op)
	case AllGather:
		return c.comm.AllGather(ctx, c.dst, c.src)
	}
	return c.comm.Barrier(ctx)
}

// start makes the call without waiting.
func (c *call) start() (*hfreduce.Request, error) {
	switch c.collective {
	case AllReduce:
		return c.comm.AllReduceAsync(c.dst, c.src, c.op)
	case Reduce:
		return c.comm.ReduceAsync(c.dst, c.src, c.op, c.root)
	case Broadcast:
		return c.comm.BroadcastAsync(c.dst, c.src, c.root)
	case ReduceScatter:
		return c.comm.ReduceScatterAsync(c.dst, c.src, c.op)
	case AllGather:
		return c.comm.AllGatherAsync(c.dst, c.src)
	}
	return c.comm.BarrierAsync()
}
