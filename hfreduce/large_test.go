// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// TestManyVirtualNodes sums over hundreds of ranks in one process. The values are small integers, so the sum is exact in
// any order.
func TestManyVirtualNodes(t *testing.T) {
	for _, world := range []struct{ np, nodes int }{{512, 512}, {512, 64}} {
		t.Run(fmt.Sprintf("%dx%d", world.nodes, world.np/world.nodes), func(t *testing.T) {
			comms := newWorld(t, blocks(world.np, world.nodes), Options{ChunkBytes: 8192, Slots: 4, Timeout: time.Minute})
			const count = 5000 // two trees, several chunks
			each(t, comms, func(c *Comm) error {
				x := make([]float32, count)
				for i := range x {
					x[i] = float32((c.Rank()*7 + i) % 11)
				}
				if err := c.AllReduce(context.Background(), Host(x), Host(x), Sum); err != nil {
					return err
				}
				for i := range x {
					want := 0
					for r := range world.np {
						want += (r*7 + i) % 11
					}
					if x[i] != float32(want) {
						return fmt.Errorf("element %d is %v, want %d", i, x[i], want)
					}
				}
				return nil
			})
		})
	}
}
