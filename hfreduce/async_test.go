// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// TestAsyncKeepsOrder starts many collectives at once and mixes in blocking ones: each builds on the one before.
func TestAsyncKeepsOrder(t *testing.T) {
	for name, nodeOf := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			comms := newWorld(t, nodeOf, smallChunks)
			each(t, comms, func(c *Comm) error {
				x := []int64{int64(c.Rank()), 1}
				var last *Request
				for i := range 20 {
					if i%5 == 4 {
						if err := c.AllReduce(context.Background(), Host(x), Host(x), Max); err != nil {
							return err
						}
						continue
					}
					r, err := c.AllReduceAsync(Host(x), Host(x), Sum)
					if err != nil {
						return err
					}
					last = r
				}
				if err := last.Wait(context.Background()); err != nil {
					return err
				}
				if err := c.Barrier(context.Background()); err != nil {
					return err
				}
				np := int64(c.WorldSize())
				wantOnes, wantRanks := int64(1), np*(np-1)/2
				for range 16 {
					wantOnes *= np
				}
				for range 15 {
					wantRanks *= np
				}
				if x[0] != wantRanks || x[1] != wantOnes {
					return fmt.Errorf("got %v, want [%d %d]", x, wantRanks, wantOnes)
				}
				return nil
			})
		})
	}
}

// TestAsyncEveryCollective starts each kind and looks at Done and Err.
func TestAsyncEveryCollective(t *testing.T) {
	comms := newWorld(t, blocks(4, 2), smallChunks)
	each(t, comms, func(c *Comm) error {
		np, r := c.WorldSize(), c.Rank()
		one, all := []int32{int32(r)}, make([]int32, np)
		sum, part, from0 := []int32{1}, make([]int32, 1), []int32{int32(r + 5)}
		starts := []func() (*Request, error){
			func() (*Request, error) { return c.AllGatherAsync(Host(all), Host(one)) },
			func() (*Request, error) { return c.ReduceScatterAsync(Host(part), Host(all), Sum) },
			func() (*Request, error) { return c.ReduceAsync(Host(sum), Host(sum), Sum, 3) },
			func() (*Request, error) { return c.BroadcastAsync(Host(from0), Host(from0), 0) },
			func() (*Request, error) { return c.BarrierAsync() },
		}
		var requests []*Request
		for _, start := range starts {
			req, err := start()
			if err != nil {
				return err
			}
			requests = append(requests, req)
		}
		for _, req := range requests {
			<-req.Done()
			if err := req.Err(); err != nil {
				return err
			}
		}
		if part[0] != int32(np*r) || from0[0] != 5 || r == 3 && sum[0] != int32(np) {
			return fmt.Errorf("part %v, from0 %v, sum %v", part, from0, sum)
		}
		return nil
	})
}

func TestWaitLetsGoWhenItsContextEnds(t *testing.T) {
	comms := newWorld(t, blocks(2, 1), Options{})
	x := make([]float32, 4)
	req, err := comms[0].AllReduceAsync(Host(x), Host(x), Sum)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := req.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Wait returned %v", err)
	}
	if req.Err() != nil {
		t.Fatalf("not done, but Err is %v", req.Err())
	}
	if err := comms[1].AllReduce(context.Background(), Host(make([]float32, 4)), Host(make([]float32, 4)), Sum); err != nil {
		t.Fatal(err)
	}
	if err := req.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestCommsAtTheSameTime runs collectives on several communicators of the same ranks concurrently.
func TestCommsAtTheSameTime(t *testing.T) {
	for name, nodeOf := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			comms := newWorld(t, nodeOf, smallChunks)
			subs := make([][]*Comm, len(comms)) // by rank
			each(t, comms, func(c *Comm) error {
				for color := range 3 {
					sub, err := c.Split(context.Background(), 0, color*c.Rank())
					if err != nil {
						return err
					}
					subs[c.Rank()] = append(subs[c.Rank()], sub)
				}
				return nil
			})
			each(t, comms, func(c *Comm) error {
				var wg sync.WaitGroup
				mine := append([]*Comm{c}, subs[c.Rank()]...)
				errs := make([]error, len(mine))
				for i, sub := range mine {
					wg.Go(func() {
						for range 20 {
							x := make([]int32, 3000+i)
							for j := range x {
								x[j] = int32(i + j)
							}
							if errs[i] = sub.AllReduce(context.Background(), Host(x), Host(x), Sum); errs[i] != nil {
								return
							}
							for j := range x {
								if x[j] != int32((i+j)*len(comms)) {
									errs[i] = fmt.Errorf("comm %d: element %d is %d", i, j, x[j])
									return
								}
							}
						}
					})
				}
				wg.Wait()
				return errors.Join(errs...)
			})
			for _, s := range subs {
				for i := range s {
					defer s[i].Close(context.Background())
				}
			}
			for i := range 3 {
				var level []*Comm
				for _, s := range subs {
					level = append(level, s[i])
				}
				closeAll(t, level)
			}
		})
	}
}

// TestCallMeetsClose: a call that was found good before Close and gets its turn after it touches nothing.
func TestCallMeetsClose(t *testing.T) {
	c := initWorld(t, []int{0}, "127.0.0.1", Options{Transport: TransportTCP})[0]
	x := Host([]int32{1, 2, 3})
	k, err := c.allReduce(x, x, Sum)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.run(t.Context(), k); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}
