// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"math"
	"testing"
)

// TestBlockingCallsAllocateNothing measures steady state: rank 0 is measured while the others make the same calls.
// AllocsPerRun counts the allocations of all goroutines, so theirs count, too.
func TestBlockingCallsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates; only the calls are tested")
	}
	ctx := context.Background()
	calls := map[string]func(c *Comm, x []float32) error{
		"AllReduce":        func(c *Comm, x []float32) error { return c.AllReduce(ctx, Host(x), Host(x), Avg) },
		"AllReduce scaled": func(c *Comm, x []float32) error { return c.AllReduce(ctx, Host(x), Host(x), PreMulSum(2)) },
		"Reduce":           func(c *Comm, x []float32) error { return c.Reduce(ctx, Host(x), Host(x), Sum, 1) },
		"Broadcast":        func(c *Comm, x []float32) error { return c.Broadcast(ctx, Host(x), Host(x), 0) },
		"ReduceScatter": func(c *Comm, x []float32) error {
			n := len(x) / c.WorldSize()
			return c.ReduceScatter(ctx, Host(x[c.Rank()*n:][:n]), Host(x[:n*c.WorldSize()]), Sum)
		},
		"AllGather": func(c *Comm, x []float32) error {
			n := len(x) / c.WorldSize()
			return c.AllGather(ctx, Host(x[:n*c.WorldSize()]), Host(x[c.Rank()*n:][:n]))
		},
		"Barrier": func(c *Comm, _ []float32) error { return c.Barrier(ctx) },
	}
	for layout, nodeOf := range layouts {
		for name, call := range calls {
			if len(nodeOf) == 1 && name == "Reduce" {
				continue // has no rank 1
			}
			t.Run(layout+"/"+name, func(t *testing.T) {
				measureAllocations(t, newWorld(t, nodeOf, Options{ChunkBytes: 4096, Slots: 4}), call)
			})
			t.Run(layout+"/checked/"+name, func(t *testing.T) {
				measureAllocations(t, newWorld(t, nodeOf, Options{ChunkBytes: 4096, Slots: 4, Checksum: true, VerifyResults: true}), call)
			})
			t.Run(layout+"/tcp/"+name, func(t *testing.T) {
				measureAllocations(t, initWorld(t, nodeOf, "127.0.0.1", Options{Transport: TransportTCP, ChunkBytes: 4096, Slots: 4}), call)
			})
		}
	}
}

const (
	allocationRuns = 50 // calls that are averaged
	allocationTry  = 3  // averages, of which the least counts: a rank that is kept off its core long enough gives notice
)

func measureAllocations(t *testing.T, comms []*Comm, call func(c *Comm, x []float32) error) {
	runs := allocationRuns
	if raceEnabled {
		runs = 1 // it allocates by itself
	}
	each(t, comms, func(c *Comm) error {
		x := make([]float32, 10_000)
		if c.Rank() > 0 {
			for range 1 + allocationTry*(1+runs) {
				if err := call(c, x); err != nil {
					return err
				}
			}
			return nil
		}
		if err := call(c, x); err != nil { // connects
			return err
		}
		var failed error
		least := math.Inf(1)
		for range allocationTry {
			least = min(least, testing.AllocsPerRun(runs, func() {
				if err := call(c, x); err != nil {
					failed = err
				}
			}))
		}
		if least > 0 && !raceEnabled {
			t.Errorf("%v allocations a call", least)
		}
		return failed
	})
}
