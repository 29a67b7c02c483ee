// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// counts make empty, tiny, unaligned, one-chunk and many-chunk buffers with chunks of 4096 bytes.
var counts = []int{0, 1, 7, 1000, 12345}

// smallChunks make short buffers go through the whole ring several times.
var smallChunks = Options{ChunkBytes: 4096, Slots: 4}

// testedTypes are all types; under the race detector, which sees nothing new in each, one of each width and rounding.
func testedTypes() []DataType {
	if raceEnabled {
		return []DataType{TypeInt64, TypeFloat32, TypeBFloat16, TypeFloat8E4M3}
	}
	return DataTypes()
}

// forEachCase runs f for every layout, and within each for data types, operators and counts.
func forEachCase(t *testing.T, ops []Op, f func(t *testing.T, comms []*Comm, nodeOf []int, d DataType, op Op, count int)) {
	for name, nodeOf := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			comms := newWorld(t, nodeOf, smallChunks)
			for _, d := range testedTypes() {
				for _, op := range ops {
					for _, count := range counts {
						f(t, comms, nodeOf, d, op, count)
					}
				}
			}
		})
	}
}

// shifted copies b to an address that is one element off the allocator's alignment.
func shifted(b []byte, d DataType) []byte {
	s := make([]byte, len(b)+d.Size())[d.Size():]
	copy(s, b)
	return s
}

func inputs(d DataType, count, ranks int, seed uint64) [][]byte {
	in := make([][]byte, ranks)
	for r := range in {
		in[r] = random(d, count, r, seed)
	}
	return in
}

func TestAllReduceMatchesOracle(t *testing.T) {
	forEachCase(t, allOps(), func(t *testing.T, comms []*Comm, nodeOf []int, d DataType, op Op, count int) {
		in := inputs(d, count, len(comms), 1)
		want := newOracle(t, nodeOf, d, op, factorOf).reduce(schedule.AllReduce, in, d.Size(), -1)
		each(t, comms, func(c *Comm) error {
			what := fmt.Sprintf("%v %v[%d]", op, d, count)
			src, dst := shifted(in[c.Rank()], d), make([]byte, len(want))
			if err := c.AllReduce(t.Context(), Bytes(dst, d), Bytes(src, d), opOf(op, c.Rank())); err != nil {
				return err
			}
			if !bytes.Equal(src, in[c.Rank()]) {
				return fmt.Errorf("%s: out of place changed the source", what)
			}
			if err := same(what, dst, want); err != nil {
				return err
			}
			if err := c.AllReduce(t.Context(), Bytes(src, d), Bytes(src, d), opOf(op, c.Rank())); err != nil {
				return err
			}
			return same(what+" in place", src, want)
		})
	})
}

func TestReduceMatchesOracle(t *testing.T) {
	forEachCase(t, []Op{Sum, Avg}, func(t *testing.T, comms []*Comm, nodeOf []int, d DataType, op Op, count int) {
		in := inputs(d, count, len(comms), 2)
		for root := range comms {
			want := newOracle(t, nodeOf, d, op, factorOf).reduce(schedule.Reduce, in, d.Size(), root)
			each(t, comms, func(c *Comm) error {
				src, dst := slices.Clone(in[c.Rank()]), Buffer{}
				if c.Rank() == root {
					dst = Bytes(src, d)
				}
				if err := c.Reduce(t.Context(), dst, Bytes(src, d), op, root); err != nil {
					return err
				}
				if c.Rank() == root {
					return same(fmt.Sprintf("%v %v[%d] root %d", op, d, count, root), src, want)
				}
				return same("source on a rank that is not root", src, in[c.Rank()])
			})
		}
	})
}

func TestBroadcastReachesAll(t *testing.T) {
	forEachCase(t, []Op{Sum}, func(t *testing.T, comms []*Comm, nodeOf []int, d DataType, _ Op, count int) {
		in := inputs(d, count, len(comms), 3)
		for root := range comms {
			for _, inPlace := range []bool{false, true} {
				each(t, comms, func(c *Comm) error {
					dst, src := make([]byte, count*d.Size()), Buffer{}
					if c.Rank() == root {
						src = Bytes(in[root], d)
						if inPlace {
							copy(dst, in[root])
							src = Bytes(dst, d)
						}
					}
					if err := c.Broadcast(t.Context(), Bytes(dst, d), src, root); err != nil {
						return err
					}
					return same(fmt.Sprintf("%v[%d] root %d", d, count, root), dst, in[root])
				})
			}
		}
	})
}

func TestReduceScatterMatchesOracle(t *testing.T) {
	forEachCase(t, []Op{Sum, Max, PreMulSum(1)}, func(t *testing.T, comms []*Comm, nodeOf []int, d DataType, op Op, count int) {
		in := inputs(d, count*len(comms), len(comms), 4)
		each(t, comms, func(c *Comm) error {
			want := newOracle(t, nodeOf, d, op, factorOf).scatter(in, d.Size(), c.Rank())
			src, dst := slices.Clone(in[c.Rank()]), make([]byte, len(want))
			if err := c.ReduceScatter(t.Context(), Bytes(dst, d), Bytes(src, d), opOf(op, c.Rank())); err != nil {
				return err
			}
			what := fmt.Sprintf("%v %v[%d]", op, d, count)
			if err := same(what, dst, want); err != nil {
				return err
			}
			own := src[c.Rank()*len(want):][:len(want)]
			if err := c.ReduceScatter(t.Context(), Bytes(own, d), Bytes(src, d), opOf(op, c.Rank())); err != nil {
				return err
			}
			expect := slices.Clone(in[c.Rank()])
			copy(expect[c.Rank()*len(want):], want)
			return same(what+" in place", src, expect)
		})
	})
}

func TestAllGatherMatchesConcatenation(t *testing.T) {
	forEachCase(t, []Op{Sum}, func(t *testing.T, comms []*Comm, nodeOf []int, d DataType, _ Op, count int) {
		in := inputs(d, count, len(comms), 5)
		want := slices.Concat(in...)
		each(t, comms, func(c *Comm) error {
			dst := make([]byte, len(want))
			if err := c.AllGather(t.Context(), Bytes(dst, d), Bytes(in[c.Rank()], d)); err != nil {
				return err
			}
			if err := same(fmt.Sprintf("%v[%d]", d, count), dst, want); err != nil {
				return err
			}
			clear(dst)
			own := dst[c.Rank()*len(in[0]):][:len(in[0])]
			copy(own, in[c.Rank()])
			if err := c.AllGather(t.Context(), Bytes(dst, d), Bytes(own, d)); err != nil {
				return err
			}
			return same(fmt.Sprintf("%v[%d] in place", d, count), dst, want)
		})
	})
}

// TestBarrierHoldsBack lets each rank count itself before the barrier: behind it everybody must see all.
func TestBarrierHoldsBack(t *testing.T) {
	for name, nodeOf := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			comms := newWorld(t, nodeOf, Options{})
			entered := make(chan int, 100*len(comms))
			each(t, comms, func(c *Comm) error {
				for round := range 100 {
					entered <- c.Rank()
					if err := c.Barrier(context.Background()); err != nil {
						return err
					}
					if n := len(entered); n < (round+1)*len(comms) {
						return fmt.Errorf("round %d: behind the barrier with %d of %d entries", round, n, (round+1)*len(comms))
					}
				}
				return nil
			})
		})
	}
}
