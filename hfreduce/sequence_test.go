// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
)

// TestAnySequence makes long random sequences of collectives of all sizes, so that the short way, the exchange between
// nodes and the pipeline follow each other in every order while ranks are ahead of each other by as much as they can be.
func TestAnySequence(t *testing.T) {
	all := map[string][]int{"3": blocks(3, 1), "1x1": blocks(2, 2), "2x2": blocks(4, 2), "4x1": blocks(4, 4), "3x2": blocks(6, 3), "uneven": {0, 1, 1, 0, 1}}
	for name, nodeOf := range all {
		for _, o := range []Options{{ChunkBytes: 4096, Slots: 1}, {ChunkBytes: 8192, Slots: 2, OnePassBytes: 1 << 10, Checksum: true, VerifyResults: true}, {}} {
			t.Run(fmt.Sprintf("%s/slots=%d", name, o.Slots), func(t *testing.T) {
				t.Parallel()
				sequence(t, newWorld(t, nodeOf, o), 400)
			})
		}
		t.Run(name+"/tcp", func(t *testing.T) {
			sequence(t, initWorld(t, nodeOf, "127.0.0.1", Options{Slots: 2}), 200)
		})
	}
}

// sequence makes calls on all ranks.
func sequence(t *testing.T, comms []*Comm, calls int) {
	np := len(comms)
	each(t, comms, func(c *Comm) error {
		ctx := context.Background()
		common := rand.New(rand.NewPCG(uint64(np), uint64(calls)))
		mine := rand.New(rand.NewPCG(uint64(c.Rank()), 1))
		memory, err := c.Alloc(4 * 70_000)
		if err != nil {
			return err
		}
		for i := range calls {
			for range mine.IntN(3) * mine.IntN(30) {
				runtime.Gosched()
			}
			count, root := []int{0, 1, 12, 13, 700, 5000, 20_000, 70_000}[common.IntN(8)], common.IntN(np)
			x, inPlace := make([]int32, count), common.IntN(2) == 0
			if common.IntN(3) == 0 {
				x = View[int32](memory)[:count]
			}
			for k := range x {
				x[k] = int32(k*(c.Rank()+1) + i)
			}
			y := x
			if !inPlace {
				y = make([]int32, count)
			}
			sum := func(k int) int32 { return int32(k*np*(np+1)/2 + np*i) }
			want := sum
			switch common.IntN(6) {
			case 0, 1, 2:
				err = c.AllReduce(ctx, Host(y), Host(x), Sum)
			case 3:
				err = c.Barrier(ctx)
				want = func(k int) int32 { return y[k] }
			case 4:
				err = c.Broadcast(ctx, Host(y), Host(x), root)
				want = func(k int) int32 { return int32(k*(root+1) + i) }
			case 5:
				err = c.Reduce(ctx, Host(y), Host(x), Sum, root)
				if c.Rank() != root {
					want = func(k int) int32 { return y[k] }
				}
			}
			if err != nil {
				return fmt.Errorf("call %d: %w", i, err)
			}
			for k := range y {
				if y[k] != want(k) {
					return fmt.Errorf("call %d of %d elements: element %d is %d, want %d", i, count, k, y[k], want(k))
				}
			}
		}
		return nil
	})
}
