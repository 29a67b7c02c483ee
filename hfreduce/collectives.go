// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// This file checks arguments. The data's way goes on in call.go, internal/schedule/plan.go and internal/engine.

// AllReduce reduces src over all ranks and writes the result to dst on every rank. dst and src have the same type and
// count, equal on all ranks; they are the same memory (in place) or do not overlap.
func (c *Comm) AllReduce(ctx context.Context, dst, src Buffer, op Op) error {
	k, err := c.allReduce(dst, src, op)
	if err != nil {
		return c.refuse(schedule.AllReduce, err)
	}
	return c.run(ctx, k)
}

// AllReduceAsync starts AllReduce and returns at once.
func (c *Comm) AllReduceAsync(dst, src Buffer, op Op) (*Request, error) {
	k, err := c.allReduce(dst, src, op)
	if err != nil {
		return nil, c.refuse(schedule.AllReduce, err)
	}
	return c.start(k)
}

// Reduce reduces src over all ranks and writes the result to dst on rank root. dst is not used on other ranks and may be
// the zero Buffer there; on root it is src (in place) or does not overlap it.
func (c *Comm) Reduce(ctx context.Context, dst, src Buffer, op Op, root int) error {
	k, err := c.reduce(dst, src, op, root)
	if err != nil {
		return c.refuse(schedule.Reduce, err)
	}
	return c.run(ctx, k)
}

// ReduceAsync starts Reduce and returns at once.
func (c *Comm) ReduceAsync(dst, src Buffer, op Op, root int) (*Request, error) {
	k, err := c.reduce(dst, src, op, root)
	if err != nil {
		return nil, c.refuse(schedule.Reduce, err)
	}
	return c.start(k)
}

// Broadcast copies src of rank root to dst on every rank. src is not used on other ranks and may be the zero Buffer
// there; on root dst is src (in place) or does not overlap it.
func (c *Comm) Broadcast(ctx context.Context, dst, src Buffer, root int) error {
	k, err := c.broadcast(dst, src, root)
	if err != nil {
		return c.refuse(schedule.Broadcast, err)
	}
	return c.run(ctx, k)
}

// BroadcastAsync starts Broadcast and returns at once.
func (c *Comm) BroadcastAsync(dst, src Buffer, root int) (*Request, error) {
	k, err := c.broadcast(dst, src, root)
	if err != nil {
		return nil, c.refuse(schedule.Broadcast, err)
	}
	return c.start(k)
}

// ReduceScatter reduces src, which holds one block for each rank in rank order, over all ranks and writes rank r's block
// to dst on rank r: src.Count() == dst.Count()*WorldSize(). dst is this rank's block within src (in place) or does not
// overlap src. In place, the other blocks of src keep their values.
func (c *Comm) ReduceScatter(ctx context.Context, dst, src Buffer, op Op) error {
	k, err := c.reduceScatter(dst, src, op)
	if err != nil {
		return c.refuse(schedule.ReduceScatter, err)
	}
	return c.run(ctx, k)
}

// ReduceScatterAsync starts ReduceScatter and returns at once.
func (c *Comm) ReduceScatterAsync(dst, src Buffer, op Op) (*Request, error) {
	k, err := c.reduceScatter(dst, src, op)
	if err != nil {
		return nil, c.refuse(schedule.ReduceScatter, err)
	}
	return c.start(k)
}

// AllGather writes the blocks src of all ranks to dst on every rank, in rank order: dst.Count() ==
// src.Count()*WorldSize(). src is this rank's block within dst (in place) or does not overlap dst.
func (c *Comm) AllGather(ctx context.Context, dst, src Buffer) error {
	k, err := c.allGather(dst, src)
	if err != nil {
		return c.refuse(schedule.AllGather, err)
	}
	return c.run(ctx, k)
}

// AllGatherAsync starts AllGather and returns at once.
func (c *Comm) AllGatherAsync(dst, src Buffer) (*Request, error) {
	k, err := c.allGather(dst, src)
	if err != nil {
		return nil, c.refuse(schedule.AllGather, err)
	}
	return c.start(k)
}

// Barrier returns when all ranks have called it.
func (c *Comm) Barrier(ctx context.Context) error {
	k, err := c.barrier()
	if err != nil {
		return c.refuse(schedule.Barrier, err)
	}
	return c.run(ctx, k)
}

// BarrierAsync starts Barrier and returns at once.
func (c *Comm) BarrierAsync() (*Request, error) {
	k, err := c.barrier()
	if err != nil {
		return nil, c.refuse(schedule.Barrier, err)
	}
	return c.start(k)
}

// refuse returns the error of a call that was never started.
func (c *Comm) refuse(kind schedule.Collective, err error) error {
	return &OpError{Op: kind.String(), Rank: c.rank, Err: err}
}

func (c *Comm) allReduce(dst, src Buffer, op Op) (call, error) {
	k := call{signature: signature{kind: schedule.AllReduce, dtype: src.dtype, op: op, root: -1, bytes: src.Bytes()}, dst: dst, src: src, in: engine.Whole, out: engine.Whole}
	return k, c.check(checkBuffers(dst, src), op.check(src.dtype), checkPair(dst, src))
}

func (c *Comm) reduce(dst, src Buffer, op Op, root int) (call, error) {
	k := call{signature: signature{kind: schedule.Reduce, dtype: src.dtype, op: op, root: root, bytes: src.Bytes()}, dst: dst, src: src, in: engine.Whole}
	if c.rank != root {
		return k, c.check(c.checkRoot(root), src.check("src"), op.check(src.dtype))
	}
	k.out = engine.Whole
	return k, c.check(c.checkRoot(root), checkBuffers(dst, src), op.check(src.dtype), checkPair(dst, src))
}

func (c *Comm) broadcast(dst, src Buffer, root int) (call, error) {
	k := call{signature: signature{kind: schedule.Broadcast, dtype: dst.dtype, root: root, bytes: dst.Bytes()}, dst: dst, src: src, out: engine.Whole}
	if c.rank != root {
		return k, c.check(c.checkRoot(root), dst.check("dst"))
	}
	k.in = engine.Whole
	if dst.at() == src.at() {
		k.out = engine.Nowhere
	}
	return k, c.check(c.checkRoot(root), checkBuffers(dst, src), checkPair(dst, src))
}

func (c *Comm) reduceScatter(dst, src Buffer, op Op) (call, error) {
	k := call{signature: signature{kind: schedule.ReduceScatter, dtype: src.dtype, op: op, root: -1, bytes: dst.Bytes()}, dst: dst, src: src, in: engine.Blocks, out: engine.Own}
	return k, c.check(checkBuffers(dst, src), op.check(src.dtype), c.checkBlock("dst", dst, "src", src))
}

func (c *Comm) allGather(dst, src Buffer) (call, error) {
	k := call{signature: signature{kind: schedule.AllGather, dtype: src.dtype, root: -1, bytes: src.Bytes()}, dst: dst, src: src, in: engine.Own, out: engine.Blocks}
	k.skipOwn = dst.overlaps(src) // checkBlock allows it only in place
	return k, c.check(checkBuffers(dst, src), c.checkBlock("src", src, "dst", dst))
}

func (c *Comm) barrier() (call, error) {
	return call{signature: signature{kind: schedule.Barrier, root: -1}, out: engine.Whole}, c.usable() // out: nothing, but when all are there
}

// check returns the first fault, the Comm's own state last: bad arguments are bad in any state.
func (c *Comm) check(faults ...error) error {
	for _, err := range faults {
		if err != nil {
			return err
		}
	}
	return c.usable()
}

// checkBuffers checks two buffers of one call, each by itself and their types.
func checkBuffers(dst, src Buffer) error {
	if err := dst.check("dst"); err != nil {
		return err
	}
	if err := src.check("src"); err != nil {
		return err
	}
	if dst.dtype != src.dtype {
		return invalidf("dst holds %v and src %v; give both the same type", dst.dtype, src.dtype)
	}
	return nil
}

// checkPair checks buffers of equal count that are the same memory or apart.
func checkPair(dst, src Buffer) error {
	if dst.bytes != src.bytes {
		return invalidf("dst has %d elements and src %d; give both the same count", dst.Count(), src.Count())
	}
	if dst.p != src.p && dst.at() != src.at() && dst.overlaps(src) {
		return invalidf("dst and src overlap by part; pass the same buffer twice (in place) or buffers that do not overlap")
	}
	return nil
}

// checkBlock checks one rank's block against the buffer of all blocks.
func (c *Comm) checkBlock(blockName string, block Buffer, allName string, all Buffer) error {
	if int64(all.bytes) != int64(block.bytes)*int64(len(c.members)) {
		return invalidf("%s has %d elements and %s %d; %s needs %d, one block for each of %d ranks",
			blockName, block.Count(), allName, all.Count(), allName, block.Count()*len(c.members), len(c.members))
	}
	if block.overlaps(all) && block.at() != all.at()+uintptr(c.rank*block.bytes) {
		return invalidf("%s overlaps %s but is not this rank's block in it; pass elements [%d:%d] of %s (in place) or memory apart",
			blockName, allName, c.rank*block.Count(), (c.rank+1)*block.Count(), allName)
	}
	return nil
}

func (c *Comm) checkRoot(root int) error {
	if root < 0 || root >= len(c.members) {
		return invalidf("root %d is not within 0..%d", root, len(c.members)-1)
	}
	return nil
}
