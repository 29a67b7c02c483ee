// SPDX-License-Identifier: Apache-2.0

package hfreduce_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// onFourRanks runs f on four ranks of this process, as two virtual nodes with two ranks each. A real job has one process
// for each rank, which gets its Comm from Init.
func onFourRanks(f func(ctx context.Context, c *hfreduce.Comm)) {
	ctx := context.Background()
	comms, err := hfreduce.NewLocal([]int{0, 0, 1, 1}, hfreduce.Options{})
	if err != nil {
		log.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, c := range comms {
		wg.Go(func() {
			f(ctx, c)
			if err := c.Close(ctx); err != nil {
				log.Fatal(err)
			}
		})
	}
	wg.Wait()
}

// Every rank gives a gradient and gets the average.
func ExampleComm_AllReduce() {
	onFourRanks(func(ctx context.Context, c *hfreduce.Comm) {
		grad := []float32{float32(c.Rank()), 8}
		if err := c.AllReduce(ctx, hfreduce.Host(grad), hfreduce.Host(grad), hfreduce.Avg); err != nil {
			log.Fatal(err)
		}
		if c.Rank() == 0 {
			fmt.Println(grad)
		}
	})
	// Output: [1.5 8]
}

// After a fault the ranks that are left go on with a new communicator, and give it what the failed collective did not get.
func ExampleComm_Shrink() {
	onFourRanks(func(ctx context.Context, c *hfreduce.Comm) {
		if c.Rank() == 2 {
			c.Abort(errors.New("a fault"))
		}
		grad, sum := []float32{1}, []float32{0}
		err := c.AllReduce(ctx, hfreduce.Host(sum), hfreduce.Host(grad), hfreduce.Sum)
		var fault *hfreduce.FaultError
		if !errors.As(err, &fault) {
			log.Fatal(err)
		}
		left, err := c.Shrink(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if err := left.AllReduce(ctx, hfreduce.Host(sum), hfreduce.Host(grad), hfreduce.Sum); err != nil {
			log.Fatal(err)
		}
		if left.Rank() == 0 {
			fmt.Println(fault)
			fmt.Println(left.WorldSize(), "ranks:", sum)
		}
		if err := left.Close(ctx); err != nil {
			log.Fatal(err)
		}
	})
	// Output:
	// hfreduce: communicator was aborted: rank 2: a fault
	// 4 ranks: [4]
}

// A collective runs while the rank computes.
func ExampleComm_AllReduceAsync() {
	onFourRanks(func(ctx context.Context, c *hfreduce.Comm) {
		bucket := []int64{1, 2, 3}
		request, err := c.AllReduceAsync(hfreduce.Host(bucket), hfreduce.Host(bucket), hfreduce.Sum)
		if err != nil {
			log.Fatal(err)
		}
		// ... compute the next bucket; bucket must not be touched ...
		if err := request.Wait(ctx); err != nil {
			log.Fatal(err)
		}
		if c.Rank() == 3 {
			fmt.Println(bucket)
		}
	})
	// Output: [4 8 12]
}

// A buffer in the node's shared memory is read in place by the other ranks.
func ExampleComm_Alloc() {
	onFourRanks(func(ctx context.Context, c *hfreduce.Comm) {
		memory, err := c.Alloc(3 * 8)
		if err != nil {
			log.Fatal(err)
		}
		x := hfreduce.View[float64](memory)
		for i := range x {
			x[i] = float64(c.Rank() * i)
		}
		if err := c.AllReduce(ctx, hfreduce.Host(x), hfreduce.Host(x), hfreduce.Max); err != nil {
			log.Fatal(err)
		}
		if c.Rank() == 1 {
			fmt.Println(x)
		}
		if err := memory.Free(); err != nil {
			log.Fatal(err)
		}
	})
	// Output: [0 3 6]
}

// Ranks with equal color form a communicator of their own.
func ExampleComm_Split() {
	onFourRanks(func(ctx context.Context, c *hfreduce.Comm) {
		pair, err := c.Split(ctx, c.Rank()%2, c.Rank())
		if err != nil {
			log.Fatal(err)
		}
		all := make([]int32, pair.WorldSize())
		if err := pair.AllGather(ctx, hfreduce.Host(all), hfreduce.Host([]int32{int32(c.Rank())})); err != nil {
			log.Fatal(err)
		}
		if c.Rank() == 1 {
			fmt.Println(all)
		}
		if err := pair.Close(ctx); err != nil {
			log.Fatal(err)
		}
	})
	// Output: [1 3]
}
