// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"fmt"
	"testing"
)

// TestAverageStaysInRange: an average that the type can tell is told, however the ranks are spread over nodes: the sum over some
// nodes may be too large for it, and what is divided first too small.
func TestAverageStaysInRange(t *testing.T) {
	half, e4m3, e5m2 := ToFloat16, ToFloat8E4M3, ToFloat8E5M2
	for name, nodeOf := range layouts {
		t.Run(name, func(t *testing.T) {
			for _, count := range []int{1, 100, 200_000} { // exchanged and over trees
				comms := newWorld(t, nodeOf, Options{})
				each(t, comms, func(c *Comm) error {
					for _, v := range []float32{65504, 40000, 6e-8} {
						if err := averages(c, count, half(v), Float16.Float32); err != nil {
							return err
						}
					}
					for _, v := range []float32{448, 256, 0x1p-9} {
						if err := averages(c, count, e4m3(v), Float8E4M3.Float32); err != nil {
							return err
						}
					}
					for _, v := range []float32{57344, 0x1p-16} {
						if err := averages(c, count, e5m2(v), Float8E5M2.Float32); err != nil {
							return err
						}
					}
					return nil
				})
			}
		})
	}
}

// averages averages numbers that are the same on all ranks, by all collectives that do.
func averages[T Element](c *Comm, count int, v T, value func(T) float32) error {
	x := make([]T, count*c.WorldSize())
	fill := func(n int) []T {
		for i := range x {
			x[i] = v
		}
		return x[:n]
	}
	check := func(what string, got []T) error {
		for i, g := range got {
			if value(g) != value(v) {
				return fmt.Errorf("%s of %d: the average of %T(%v) is %v at %d", what, count, v, value(v), value(g), i)
			}
		}
		return nil
	}
	ctx := c.life
	b := Host(fill(count))
	if err := c.AllReduce(ctx, b, b, Avg); err != nil {
		return err
	}
	if err := check("AllReduce", x[:count]); err != nil {
		return err
	}
	b = Host(fill(count))
	if err := c.Reduce(ctx, b, b, Avg, c.WorldSize()-1); err != nil {
		return err
	}
	if c.Rank() == c.WorldSize()-1 {
		if err := check("Reduce", x[:count]); err != nil {
			return err
		}
	}
	block := make([]T, count)
	if err := c.ReduceScatter(ctx, Host(block), Host(fill(len(x))), Avg); err != nil {
		return err
	}
	return check("ReduceScatter", block)
}
