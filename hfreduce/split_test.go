// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
)

func TestSplitGroupsAndOrders(t *testing.T) {
	for name, nodeOf := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			comms := newWorld(t, nodeOf, smallChunks)
			np := len(comms)
			each(t, comms, func(c *Comm) error {
				ctx := context.Background()
				color := c.Rank() % 3
				if color == 2 {
					color = -1
				}
				sub, err := c.Split(ctx, color, -c.Rank()) // ranked backwards
				if err != nil {
					return err
				}
				if color < 0 {
					if sub != nil {
						return fmt.Errorf("a negative color got a Comm")
					}
					return c.Barrier(ctx)
				}
				size := (np - color + 2) / 3
				if sub.WorldSize() != size || sub.Rank() != size-1-c.Rank()/3 {
					return fmt.Errorf("rank %d of %d in the new Comm, want %d of %d", sub.Rank(), sub.WorldSize(), size-1-c.Rank()/3, size)
				}
				all := make([]int32, size)
				if err := sub.AllGather(ctx, Host(all), Host([]int32{int32(c.Rank())})); err != nil {
					return err
				}
				for i, r := range all {
					if want := int32(color + 3*(size-1-i)); r != want {
						return fmt.Errorf("rank %d of the new Comm is old rank %d, want %d", i, r, want)
					}
				}
				if err := c.Barrier(ctx); err != nil { // parent and child both work
					return err
				}
				return sub.Close(ctx)
			})
		})
	}
}

// TestSplitByAnyKey: keys may be hashes, whose difference is no number.
func TestSplitByAnyKey(t *testing.T) {
	var all [][]byte
	for _, key := range []int{5, math.MaxInt, math.MinInt, 5, -1} {
		b, err := json.Marshal(choice{1, key})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	if ranks, err := chosen(all, 1); err != nil || !slices.Equal(ranks, []int{2, 4, 0, 3, 1}) {
		t.Errorf("ranks %v, %v", ranks, err)
	}
}

// TestSplitOfSplit halves the world until single ranks are left.
func TestSplitOfSplit(t *testing.T) {
	comms := newWorld(t, blocks(8, 4), smallChunks)
	each(t, comms, func(c *Comm) error {
		ctx := context.Background()
		for cur := c; cur.WorldSize() > 1; {
			sub, err := cur.Split(ctx, cur.Rank()%2, cur.Rank())
			if err != nil {
				return err
			}
			x := []int32{1}
			if err := sub.AllReduce(ctx, Host(x), Host(x), Sum); err != nil {
				return err
			}
			if int(x[0]) != sub.WorldSize() {
				return fmt.Errorf("sum %d in a Comm of %d", x[0], sub.WorldSize())
			}
			defer sub.Close(ctx)
			cur = sub
		}
		return nil
	})
}
