// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// call is one collective call: checked arguments.
type call struct {
	signature
	dst, src Buffer
	in, out  engine.Mapping
	skipOwn  bool // AllGather whose source already lies in the destination

	place *place // nil unless the communicator was made for GPUs
}

// signature is what of a call must be equal on all ranks.
type signature struct {
	kind  schedule.Collective
	dtype DataType
	op    Op
	root  int   // -1 for collectives without
	bytes int64 // of the whole buffer; for ReduceScatter and AllGather of one rank's block

	inPlace bool // is said, but may differ: nothing on other ranks depends on it
}

// String describes the call: "AllReduce float[1024] sum".
func (k *signature) String() string {
	if k.kind == schedule.Barrier { // of nothing
		return k.kind.String()
	}
	s := fmt.Sprintf("%v %v[%d]", k.kind, k.dtype, k.bytes/int64(max(1, k.dtype.Size())))
	switch k.kind {
	case schedule.AllReduce, schedule.Reduce, schedule.ReduceScatter:
		s += " " + k.op.String()
	}
	if k.root >= 0 {
		s += fmt.Sprintf(" root %d", k.root)
	}
	if k.inPlace {
		s += " in place"
	}
	return s
}

// run executes a checked call now or, if others come first, after them, and waits for it.
func (c *Comm) run(ctx context.Context, k call) error {
	if err := ctx.Err(); err != nil {
		return &OpError{Op: k.kind.String(), Rank: c.rank, Err: err}
	}
	if c.devices.made || k.onDevice() {
		return c.runOrdered(&Request{call: k, ctx: ctx, done: make(chan struct{})})
	}
	if !c.queue.enter() {
		return c.runQueued(ctx, k)
	}
	defer c.queue.leave(c)
	c.call = k
	return c.execute(ctx)
}

// runQueued waits for its turn. It is apart so that run's argument need not be on the heap.
func (c *Comm) runQueued(ctx context.Context, k call) error {
	r := &Request{call: k, ctx: ctx, done: make(chan struct{})}
	c.queue.submit(c, r)
	<-r.done
	return r.err
}

// start queues a checked call.
func (c *Comm) start(k call) (*Request, error) {
	if err := c.usable(); err != nil {
		return nil, &OpError{Op: k.kind.String(), Rank: c.rank, Err: err}
	}
	r := &Request{call: k, ctx: context.Background(), done: make(chan struct{})}
	if !c.devices.made && !k.onDevice() {
		c.queue.submit(c, r)
		return r, nil
	}
	if err := c.startOrdered(r); err != nil {
		return nil, c.refuse(k.kind, err)
	}
	return r, nil
}

// epoch is when this process began to count time: a difference to it reads one clock where time.Now reads two.
var epoch = time.Now()

// execute runs the collective c.call. Only one goroutine at a time is here.
func (c *Comm) execute(ctx context.Context) error {
	k := &c.call
	defer func() { k.dst, k.src, c.op.Dst, c.op.Src = Buffer{}, Buffer{}, nil, nil }() // not to keep memory alive
	if c.sealed {
		return &OpError{Op: k.kind.String(), Rank: c.rank, Err: ErrClosed}
	}
	if cause := c.cause.Load(); cause != nil {
		return &OpError{Op: k.kind.String(), Rank: c.rank, Err: *cause}
	}
	begin := time.Since(epoch)
	seq := c.stats.begin(k.kind)
	err := c.prepare(ctx, k, seq)
	if err == nil {
		err = c.engine.Run(ctx, &c.op)
	}
	if err == nil {
		err = c.verifyResult(ctx, k, seq)
	}
	c.stats.end(k.kind, c.payload(k), time.Since(epoch)-begin, err)
	if err != nil {
		return &OpError{Op: k.kind.String(), Rank: c.rank, Seq: seq, Err: c.settle(k, seq, err)}
	}
	return nil
}

// payload returns the bytes that a call counts in the statistics: nccl-tests' S.
func (c *Comm) payload(k *call) int64 {
	switch k.kind {
	case schedule.ReduceScatter, schedule.AllGather:
		return k.bytes * int64(len(c.members))
	}
	return k.bytes
}

// prepare fills c.op and makes the links that the plan needs and that do not exist yet.
func (c *Comm) prepare(ctx context.Context, k *call, seq uint64) error {
	op := &c.op
	op.Plan, op.Bytes = schedule.NewPlan(&c.layout, k.kind, k.bytes, max(1, k.dtype.Size()), k.root), k.bytes
	op.Chunk = c.pipeline.chunkFor(c.payload(k))
	op.Spec = kernel.Spec{DType: kernel.DType(k.dtype), Op: k.op.kernelOp()}
	op.Scaled, op.Scale = k.op.kind == opPreMulSum, k.op.factor
	op.Mean = k.op.kind == opAvg && k.dtype.narrowRange() && len(c.layout.Nodes) > 1
	if k.op.kind == opAvg && !op.Mean {
		op.Spec.Divisor = len(c.members)
	}
	op.Tag = c.tag(k, seq)
	k.inPlace = k.in != engine.Nowhere && k.out != engine.Nowhere && k.src.overlaps(k.dst)
	c.journal.begin(c, seq, &k.signature, op.Tag)
	c.engine.Enter(seq)
	op.Src, op.Dst, op.In, op.Out = nil, nil, k.in, k.out
	if k.in != engine.Nowhere && !k.src.device() {
		op.Src = k.src.raw()
	}
	if k.out != engine.Nowhere && !k.dst.device() {
		op.Dst = k.dst.raw()
	}
	if k.place != nil {
		c.prepareForDevice(k)
	}
	op.SkipOwnBlock = k.skipOwn
	op.SrcShare, op.DstShare = engine.NotShared, engine.NotShared
	if k.in == engine.Whole && k.kind != schedule.Broadcast {
		if offset, ok := c.memories.offset(c.segment, k.src); ok {
			op.SrcShare = offset
		}
	}
	if k.out == engine.Whole {
		if offset, ok := c.memories.offset(c.segment, k.dst); ok {
			op.DstShare = offset
		}
	}
	return c.link(ctx, &op.Plan, op.Bytes)
}

// tag is the fingerprint by which ranks find out that they make different calls.
func (c *Comm) tag(k *call, seq uint64) uint32 {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	small := uint64(k.kind) | uint64(k.dtype)<<8 | uint64(k.op.kind)<<16 | uint64(uint32(k.root+1))<<32
	h := c.salt
	for _, v := range [...]uint64{seq, small, uint64(k.bytes)} {
		h = (h ^ v) * odd
		h ^= h >> 32
	}
	return uint32(h)
}

// link connects to the ranks that a plan needs. All ranks of the plan do so at the same call.
func (c *Comm) link(ctx context.Context, p *schedule.Plan, bytes int64) error {
	if len(c.layout.Nodes) == 1 {
		return nil
	}
	key := planKey{p.Collective, p.Root, p.Flows(), c.exchange.Takes(p.Collective, bytes)}
	if c.linked[key] {
		return nil
	}
	if err := c.connect(ctx, p, bytes); err != nil {
		return err
	}
	c.linked[key] = true
	return nil
}

// settle has the error of a running collective judged, waits for the verdict, which becomes the Comm's cause on all ranks,
// and returns it.
func (c *Comm) settle(k *call, seq uint64, err error) error {
	if c.stuck.Load() == nil {
		p := c.engine.Position()
		c.stuck.Store(&p)
	}
	var (
		mismatch *engine.MismatchError
		link     *engine.LinkError
		stall    *engine.StallError
		corrupt  *engine.CorruptError
		differ   *disagreement
	)
	r := report{Kind: verdictFault, Seq: seq, Call: k.String(), Accused: -1, Text: err.Error()}
	switch {
	case c.cause.Load() != nil:
	case errors.As(err, &mismatch):
		r.Kind, r.Accused = verdictMismatch, c.members[mismatch.Rank]
		r.Text = fmt.Sprintf("rank %d found another call of rank %d", c.rank, mismatch.Rank)
	case errors.As(err, &corrupt):
		r.Kind, r.Suspects, r.Text = verdictCorrupt, c.worldRanks(corrupt.From, corrupt.To), err.Error()
	case errors.As(err, &differ):
		r.Kind, r.Suspects, r.Text = verdictCorrupt, c.worldRanks(differ.suspects()...), err.Error()
	case errors.As(err, &stall):
		r.Kind, r.Text = verdictTimeout, fmt.Sprintf("made no progress for %v", c.opts.Timeout)
	case errors.As(err, &link) && errors.Is(err, transport.ErrPeerClosed): // it has broken, and knows why
		r.Kind, r.Text = verdictTimeout, fmt.Sprintf("lost the link to rank %d, which closed it", link.Rank)
	case errors.Is(err, engine.ErrPoisoned): // the same within a node
		r.Kind, r.Text = verdictTimeout, brokenNearby
	case errors.As(err, &link) && errors.Is(err, transport.ErrPeerLost):
		r.Kind, r.Accused, r.Text = verdictLost, c.members[link.Rank], link.Err.Error()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		c.abandon(fmt.Sprintf("the context of %v #%d ended: %v", k, seq, err), err)
	}
	c.judged(r, err)
	c.closeLinks()
	return *c.cause.Load()
}

// brokenNearby is what a rank reports that finds the mark of one that has broken. That one has been told, or is about to tell,
// why, and whoever judges knows it; if nobody judges it is no more than that nothing can move any longer.
const brokenNearby = "another rank of its node has broken the communicator"

// worldRanks returns the world ranks of a few ranks.
func (c *Comm) worldRanks(ranks ...int) (world []int) {
	for _, r := range ranks[:min(len(ranks), maxCulprits)] {
		world = append(world, c.members[r])
	}
	return world
}

// judged has a fault judged unless there is a verdict already, and waits for that: at most verdictWait.
func (c *Comm) judged(r report, err error) {
	if c.cause.Load() == nil {
		c.report(r, err)
	}
	<-c.life.Done()
}

// abandon breaks the Comm because the context of a running call ended.
func (c *Comm) abandon(text string, err error) {
	c.fail(verdict{Kind: verdictAborted, Rank: c.members[c.rank], Text: text}, err)
}
