// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"unsafe"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// This file compares results (Options.VerifyResults). Each rank hashes its own, and one small AllReduce finds the largest hash and
// the largest complement of one, which is that of the smallest. Only where these differ is it asked which rank has which.

// extremes is what the small AllReduce works on, in place: the largest hash, and the largest complement of a hash.
type extremes [2]uint64

const extremesBytes = int64(unsafe.Sizeof(extremes{}))

// verified reports whether a call's results are compared: all ranks have the same one, of at least a byte.
func (c *Comm) verified(k *call) bool {
	switch k.kind {
	case schedule.AllReduce, schedule.Broadcast, schedule.AllGather:
		return c.opts.VerifyResults && k.bytes > 0
	}
	return false
}

// checkVerified refuses results that this rank cannot hash.
func (c *Comm) checkVerified(k *call) error {
	if c.verified(k) && k.dst.device() {
		return fmt.Errorf("%w: VerifyResults compares results in host memory, dst is in the memory of a GPU; turn it off (HFREDUCE_VERIFY_RESULTS), or copy the data", ErrNotSupported)
	}
	return nil
}

// verifyResult compares the result of c.call, which has ended, with those of the other ranks.
func (c *Comm) verifyResult(ctx context.Context, k *call, seq uint64) error {
	if !c.verified(k) {
		return nil
	}
	var none nan
	if len(c.layout.Nodes) > 1 {
		none = k.nan()
	}
	mine := resultHash(k.dst.raw(), none)
	x := &c.extremes
	*x = extremes{mine, ^mine}
	b := bytesOf(x[:])
	if err := c.runInner(ctx, seq, engine.Op{Plan: c.extremesPlan(), Bytes: extremesBytes, Src: b, Dst: b, In: engine.Whole, Out: engine.Whole}); err != nil {
		return err
	}
	if x[0] == ^x[1] {
		return nil
	}
	own, all := []uint64{mine}, make([]uint64, len(c.members))
	plan := schedule.NewPlan(&c.layout, schedule.AllGather, 8, 8, -1)
	if err := c.runInner(ctx, seq, engine.Op{Plan: plan, Bytes: 8, Src: bytesOf(own), Dst: bytesOf(all), In: engine.Own, Out: engine.Blocks}); err != nil {
		return err
	}
	return &disagreement{all}
}

// extremesPlan is the plan of the small AllReduce.
func (c *Comm) extremesPlan() schedule.Plan {
	return schedule.NewPlan(&c.layout, schedule.AllReduce, extremesBytes, 8, -1)
}

// runInner runs a collective over 64-bit numbers behind the call that has ended, as a part of it.
func (c *Comm) runInner(ctx context.Context, seq uint64, op engine.Op) error {
	c.engine.Enter(seq)
	op.Spec = kernel.Spec{DType: kernel.DType(TypeUint64), Op: Max.kernelOp()}
	op.Tag, op.Chunk = c.op.Tag+1, c.op.Chunk
	op.SrcShare, op.DstShare = engine.NotShared, engine.NotShared
	c.op = op
	if err := c.link(ctx, &c.op.Plan, op.Bytes); err != nil {
		return err
	}
	return c.engine.Run(ctx, &c.op)
}

// bytesOf returns the memory of numbers.
func bytesOf(x []uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 8*len(x))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hashBlock is what is hashed at a time: it is in the first-level cache when the second sum is made.
const hashBlock = 16 << 10

// resultHash returns two CRCs of different polynomials, which processors make faster than any good hash. Together they are one
// CRC of 64 bits. Numbers that are none count as the same one each.
func resultHash(b []byte, none nan) uint64 {
	var x, y uint32
	for len(b) > 0 {
		block := b[:min(len(b), hashBlock)]
		b = b[len(block):]
		if none.within(block) {
			var alike [hashBlock]byte
			block = none.unify(alike[:], block)
		}
		x, y = crc32.Update(x, castagnoli, block), crc32.Update(y, crc32.IEEETable, block)
	}
	return uint64(x)<<32 | uint64(y)
}

// disagreement is the error of results that are not equal on all ranks.
type disagreement struct {
	hashes []uint64 // by rank
}

// holders are the ranks that have a result.
type holders struct {
	hash  uint64
	ranks []int
}

// groups returns who has which result, what most ranks have first.
func (d *disagreement) groups() (all []holders) {
	for rank, hash := range d.hashes {
		i := slices.IndexFunc(all, func(h holders) bool { return h.hash == hash })
		if i < 0 {
			i, all = len(all), append(all, holders{hash: hash})
		}
		all[i].ranks = append(all[i].ranks, rank)
	}
	slices.SortStableFunc(all, func(a, b holders) int { return cmp.Compare(len(b.ranks), len(a.ranks)) })
	return all
}

// accused returns who has which of the results that are not those of most ranks, or of all if no result has a majority.
func (d *disagreement) accused() (all []holders, majority *holders) {
	all = d.groups()
	if 2*len(all[0].ranks) > len(d.hashes) {
		return all[1:], &all[0]
	}
	return all, nil
}

// suspects returns the ranks with these results.
func (d *disagreement) suspects() (ranks []int) {
	all, _ := d.accused()
	for _, h := range all {
		ranks = append(ranks, h.ranks...)
	}
	return ranks
}

// namedRanks and namedGroups bound what an error lists.
const namedRanks, namedGroups = 16, 8

// Error names the ranks whose results are not what most ranks have, or all of them if no result has a majority.
func (d *disagreement) Error() string {
	all, usual := d.accused()
	text := "the ranks' results differ, and no result is that of a majority"
	if usual != nil {
		text = fmt.Sprintf("the ranks' results differ from that of the majority (%d of %d ranks, hash %016x)", len(usual.ranks), len(d.hashes), usual.hash)
	}
	var parts []string
	for _, h := range all[:min(len(all), namedGroups)] {
		parts = append(parts, h.String())
	}
	if more := len(all) - namedGroups; more > 0 {
		parts = append(parts, fmt.Sprintf("%d further results", more))
	}
	return text + ": " + strings.Join(parts, "; ")
}

// String lists the ranks and what they have.
func (h *holders) String() string {
	noun, more := "ranks", ""
	if len(h.ranks) == 1 {
		noun = "rank"
	}
	if n := len(h.ranks) - namedRanks; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	list := strings.Trim(fmt.Sprint(h.ranks[:min(len(h.ranks), namedRanks)]), "[]")
	return fmt.Sprintf("%s %s%s with hash %016x", noun, list, more, h.hash)
}
