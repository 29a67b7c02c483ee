// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// control is how the ranks of all groups agree on times, errors and when to go on: by our own collectives on float64,
// outside of what is timed.
type control struct {
	comm *hfreduce.Comm
}

func (c control) barrier(ctx context.Context) error { return c.comm.Barrier(ctx) }

// reduce combines one number over all ranks.
func (c control) reduce(ctx context.Context, v float64, op hfreduce.Op) (float64, error) {
	b := []float64{v}
	err := c.comm.AllReduce(ctx, hfreduce.Host(b), hfreduce.Host(b), op)
	return b[0], err
}

// average combines a time over all ranks as the configuration says.
func (c control) average(ctx context.Context, seconds float64, how Average) (float64, error) {
	switch how {
	case RankZero:
		b := []float64{seconds}
		err := c.comm.Broadcast(ctx, hfreduce.Host(b), hfreduce.Host(b), 0)
		return b[0], err
	case Fastest:
		return c.reduce(ctx, seconds, hfreduce.Min)
	case Slowest:
		return c.reduce(ctx, seconds, hfreduce.Max)
	}
	return c.reduce(ctx, seconds, hfreduce.Avg)
}

// sums adds numbers, each by itself, over all ranks, in place.
func (c control) sums(ctx context.Context, numbers []float64) error {
	return c.comm.AllReduce(ctx, hfreduce.Host(numbers), hfreduce.Host(numbers), hfreduce.Sum)
}

// gather returns the numbers of all ranks, one rank after the other.
func (c control) gather(ctx context.Context, numbers []float64) ([]float64, error) {
	all := make([]float64, len(numbers)*c.comm.WorldSize())
	err := c.comm.AllGather(ctx, hfreduce.Host(all), hfreduce.Host(numbers))
	return all, err
}

// processTimes returns each process's time of each iteration, which is that of its slowest rank, from the times of all
// ranks one after the other.
func processTimes(all []float64, iters, ranksPerProcess int) [][]float64 {
	processes := make([][]float64, len(all)/(iters*ranksPerProcess))
	for p := range processes {
		processes[p] = make([]float64, iters)
		for r := range ranksPerProcess {
			for i, t := range all[(p*ranksPerProcess+r)*iters:][:iters] {
				processes[p][i] = max(processes[p][i], t)
			}
		}
	}
	return processes
}

// slowest returns the time of the slowest process in each iteration.
func slowest(processes [][]float64) []float64 {
	times := make([]float64, len(processes[0]))
	for _, p := range processes {
		for i, t := range p {
			times[i] = max(times[i], t)
		}
	}
	return times
}
