// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// TestBitsDoNotDependOnPipeline changes everything that must not matter. All results are compared with the oracle, hence
// with each other.
func TestBitsDoNotDependOnPipeline(t *testing.T) {
	const count = 270_001 // more than any layout exchanges
	for name, nodeOf := range layouts {
		for _, d := range []DataType{TypeFloat32, TypeBFloat16, TypeFloat8E4M3} {
			in := inputs(d, count, len(nodeOf), 6)
			want := newOracle(t, nodeOf, d, Sum, nil).reduce(schedule.AllReduce, in, d.Size(), -1)
			for _, chunk := range []int{4096, 12288, 1 << 20} {
				for _, slots := range []int{1, 2, 8} {
					t.Run(fmt.Sprintf("%s/%v/chunk=%d/slots=%d", name, d, chunk, slots), func(t *testing.T) {
						comms := newWorld(t, nodeOf, Options{ChunkBytes: chunk, Slots: slots})
						each(t, comms, func(c *Comm) error {
							dst := make([]byte, len(want))
							if err := c.AllReduce(context.Background(), Bytes(dst, d), Bytes(in[c.Rank()], d), Sum); err != nil {
								return err
							}
							return same("sum", dst, want)
						})
					})
				}
			}
		}
	}
}

// TestBitsDoNotDependOnThreads runs the same sum with one and with many threads.
func TestBitsDoNotDependOnThreads(t *testing.T) {
	nodeOf, d := blocks(8, 4), TypeFloat32
	in := inputs(d, 100_000, len(nodeOf), 7)
	want := newOracle(t, nodeOf, d, Sum, nil).reduce(schedule.AllReduce, in, d.Size(), -1)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, threads := range []int{1, 2, 16} {
		runtime.GOMAXPROCS(threads)
		comms := newWorld(t, nodeOf, Options{})
		each(t, comms, func(c *Comm) error {
			dst := make([]byte, len(want))
			if err := c.AllReduce(context.Background(), Bytes(dst, d), Bytes(in[c.Rank()], d), Sum); err != nil {
				return err
			}
			return same(fmt.Sprintf("%d threads", threads), dst, want)
		})
	}
}

// TestLinksAddedLater runs, with one slot, collectives of which each needs links that the one before did not: what was
// granted to the older links must not be forgotten.
func TestLinksAddedLater(t *testing.T) {
	for name, nodeOf := range map[string][]int{"5x1": blocks(5, 5), "9x1": blocks(9, 9), "strided": layouts["strided"]} {
		t.Run(name, func(t *testing.T) {
			comms := newWorld(t, nodeOf, Options{ChunkBytes: 4096, Slots: 1, Timeout: 10 * time.Second})
			each(t, comms, func(c *Comm) error {
				ctx, np := context.Background(), c.WorldSize()
				x, all := make([]int32, 6000), make([]int32, np)
				for round := range np {
					for i := range x {
						x[i] = int32(i)
					}
					if err := c.AllReduce(ctx, Host(x), Host(x), Max); err != nil {
						return err
					}
					if err := c.Reduce(ctx, Host(x), Host(x), Max, round); err != nil {
						return err
					}
					if err := c.Broadcast(ctx, Host(x), Host(x), (round+1)%np); err != nil {
						return err
					}
					if err := c.AllGather(ctx, Host(all), Host([]int32{int32(c.Rank())})); err != nil {
						return err
					}
					for i := range x {
						if x[i] != int32(i) || all[i%np] != int32(i%np) {
							return fmt.Errorf("round %d: element %d is %d, gathered %v", round, i, x[i], all)
						}
					}
				}
				return nil
			})
		})
	}
}
