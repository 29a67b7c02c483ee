// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// TestBitsDoNotDependOnPipeline changes everything that must not matter. All results are compared with the oracle, hence
// with each other.
func TestBitsDoNotDependOnPipeline(t *testing.T) {
	const count = 50_001
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
