// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/cuda"
)

// A rank of the tests here has a pipeline of its own on its stream: a producer that is late, a collective, and a consumer that
// copies the result away at once. All of it is given to the stream before anything runs.

// produced is element i of what a rank gives in a round.
func produced(rank, round, i int) uint32 {
	return uint32(rank+1)*1_000_003 + uint32(round)*7919 + uint32(i)
}

// summed is element i of the sum over ranks.
func summed(ranks, round, i int) (sum uint32) {
	for r := range ranks {
		sum += produced(r, round, i)
	}
	return sum
}

// lateRound enqueues one round: the producer waits for a word, then copies new data in; the consumer copies the result out and
// wipes the buffer. The collective must see the one and precede the other.
func (g *gpuRank) lateRound(c *Comm, p cuda.Ptr, count, round int) error {
	in, out := g.pinned.Bytes()[64:64+4*count], g.pinned.Bytes()[64+4*count:64+8*count]
	for i := range count {
		binary.LittleEndian.PutUint32(in[4*i:], produced(c.Rank(), round, i))
		binary.LittleEndian.PutUint32(out[4*i:], 0)
	}
	if err := g.hold(); err != nil {
		return err
	}
	g.list.Reset()
	g.list.Copy(g.stream, p, g.pinned.HostPtr(64), int64(4*count), cuda.ToDevice)
	if err := g.Run(&g.list); err != nil {
		return err
	}
	b := Device(p, count, TypeUint32, g.stream)
	r, err := c.AllReduceAsync(b, b, Sum)
	if err != nil {
		return err
	}
	g.list.Reset()
	g.list.Copy(g.stream, g.pinned.HostPtr(int64(64+4*count)), p, int64(4*count), cuda.ToHost)
	g.list.Fill(g.stream, p, 0xee, int64(4*count))
	if err := g.Run(&g.list); err != nil {
		return err
	}
	select {
	case <-r.Done(): // the producer is still held
		return fmt.Errorf("round %d ended before its producer had run: %v", round, r.Err())
	default:
	}
	g.letGo()
	if err := g.Synchronize(g.stream); err != nil {
		return err
	}
	for i := range count {
		if got, want := binary.LittleEndian.Uint32(out[4*i:]), summed(c.WorldSize(), round, i); got != want {
			return fmt.Errorf("round %d: element %d of %d is %d, want %d", round, i, count, got, want)
		}
	}
	return r.Wait(context.Background())
}

// TestDeviceOrderOnStream runs rounds with late producers and immediate consumers, small reductions and pipelines in turn.
func TestDeviceOrderOnStream(t *testing.T) {
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	comms, gpus := newGPUWorld(t, fourRanks(t), smallDeviceChunks)
	gpus[0].needHold(t)
	each(t, comms, func(c *Comm) error {
		g := gpus[c.Rank()]
		p, err := g.put(make([]byte, 4*20_000))
		if err != nil {
			return err
		}
		for round := range rounds {
			if err := g.lateRound(c, p, []int{1, 3000, 5, 20_000, 300}[round%5], round); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestDeviceCallsWaitForNobody starts collectives on one rank alone, whose stream is held: they return although nobody else
// has called, and end when the others have.
func TestDeviceCallsWaitForNobody(t *testing.T) {
	comms, gpus := newGPUWorld(t, blocks(2, 2), smallDeviceChunks)
	const calls, count = 5, 5000
	start := func(c *Comm) ([]*Request, error) {
		g := gpus[c.Rank()]
		var requests []*Request
		for range calls {
			p, err := g.room(4 * count)
			if err != nil {
				return nil, err
			}
			b := Device(p, count, TypeInt32, g.stream)
			r, err := c.AllReduceAsync(b, b, Sum)
			if err != nil {
				return nil, err
			}
			requests = append(requests, r)
		}
		return requests, nil
	}
	gpus[0].needHold(t)
	if err := gpus[0].hold(); err != nil {
		t.Fatal(err)
	}
	first, err := start(comms[0]) // would never return if it waited
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range first {
		if r.Err() != nil || isDone(r) {
			t.Fatalf("call %d has ended (%v) without the other ranks", i, r.Err())
		}
	}
	gpus[0].letGo()
	each(t, comms, func(c *Comm) error {
		requests := first
		if c.Rank() > 0 {
			var err error
			if requests, err = start(c); err != nil {
				return err
			}
		}
		var errs []error
		for _, r := range requests {
			errs = append(errs, r.Wait(t.Context()))
		}
		return errors.Join(errs...)
	})
}

func isDone(r *Request) bool {
	select {
	case <-r.Done():
		return true
	default:
		return false
	}
}

// TestDeviceManyInFlight keeps collectives of two streams in flight, beyond the number of bounce areas and slots.
func TestDeviceManyInFlight(t *testing.T) {
	comms, gpus := newGPUWorld(t, fourRanks(t), smallDeviceChunks)
	const calls = 60
	each(t, comms, func(c *Comm) error {
		g := gpus[c.Rank()]
		other, err := g.NewStream(false)
		if err != nil {
			return err
		}
		var requests []*Request
		var buffers []cuda.Ptr
		sizes := []int{10, 2000, 9000}
		for i := range calls {
			count := sizes[i%len(sizes)]
			data := make([]byte, 4*count)
			for e := range count {
				binary.LittleEndian.PutUint32(data[4*e:], produced(c.Rank(), i, e))
			}
			p, err := g.put(data)
			if err != nil {
				return err
			}
			b := Device(p, count, TypeUint32, []cuda.Stream{g.stream, other}[i%2])
			r, err := c.AllReduceAsync(b, b, Sum)
			if err != nil {
				return err
			}
			requests, buffers = append(requests, r), append(buffers, p)
		}
		for i, r := range requests {
			if err := r.Wait(context.Background()); err != nil {
				return err
			}
			count := sizes[i%len(sizes)]
			got, err := g.get(buffers[i], 4*count)
			if err != nil {
				return err
			}
			for e := range count {
				if v := binary.LittleEndian.Uint32(got[4*e:]); v != summed(c.WorldSize(), i, e) {
					return fmt.Errorf("call %d: element %d is %d, want %d", i, e, v, summed(c.WorldSize(), i, e))
				}
			}
		}
		return g.DestroyStream(other)
	})
}

// TestDeviceBlockingCallTakesItsContext ends a blocking call whose stream never lets it begin.
func TestDeviceBlockingCallTakesItsContext(t *testing.T) {
	comms, gpus := newGPUWorld(t, blocks(2, 1), smallDeviceChunks)
	g := gpus[0]
	g.needHold(t)
	p, err := g.put(make([]byte, 40_000))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.hold(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	b := Device(p, 10_000, TypeFloat32, g.stream)
	if err := comms[0].AllReduce(ctx, b, b, Sum); !errors.Is(err, ErrAborted) {
		t.Errorf("the error is %v, want ErrAborted", err)
	}
	if err := comms[1].Barrier(t.Context()); !errors.Is(err, ErrAborted) {
		t.Errorf("rank 1's error is %v, want ErrAborted", err)
	}
	g.letGo()
	if err := g.Synchronize(g.stream); err != nil {
		t.Error(err)
	}
}

// TestDeviceOneToEightRanksOnANode sums on nodes of every size that there is.
func TestDeviceOneToEightRanksOnANode(t *testing.T) {
	for ranks := 1; ranks <= 8; ranks++ {
		t.Run(fmt.Sprint(ranks), func(t *testing.T) {
			comms, gpus := newGPUWorld(t, blocks(ranks, 1), smallDeviceChunks)
			each(t, comms, func(c *Comm) error {
				g := gpus[c.Rank()]
				for round, count := range []int{9000, 3, 20_001} {
					if err := g.sum(t.Context(), c, round, count); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

// TestDeviceSharedInputIsKept: a rank of which others still read what it shares in memory of Alloc does not return, although its
// GPU has not copied an earlier result out, so that this rank is not through with that.
func TestDeviceSharedInputIsKept(t *testing.T) {
	o := Options{ChunkBytes: 1 << 16, DeviceChunkBytes: 1 << 16, DeviceSlots: 4, Fault: "pause=200ms rank=0 call=2 stage=reduce times=1"}
	comms, gpus := newGPUWorld(t, blocks(2, 1), o)
	const count = 1 << 14 // one item
	g := gpus[1]
	g.needHold(t)
	memory, err := comms[1].Alloc(4 * count)
	if err != nil {
		t.Fatal(err)
	}
	shared := View[int32](memory)
	shared[0] = 1
	free, err := g.NewStream(false)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]int32, count)
	each(t, comms, func(c *Comm) error {
		if c.Rank() == 0 {
			x := make([]int32, count)
			if err := c.AllReduce(t.Context(), Host(first), Host(first), Sum); err != nil {
				return err
			}
			if err := c.Reduce(t.Context(), Host(x), Host(x), Sum, 0); err != nil {
				return err
			}
			if x[0] != 1 {
				return fmt.Errorf("the sum is %d, want 1", x[0])
			}
			return nil
		}
		p, err := g.put(make([]byte, 8*count))
		if err != nil {
			return err
		}
		if err := g.hold(); err != nil {
			return err
		}
		r, err := c.AllReduceAsync(Device(p+4*count, count, TypeInt32, g.stream), Device(p, count, TypeInt32, free), Sum)
		if err != nil {
			return err
		}
		time.AfterFunc(50*time.Millisecond, g.letGo)
		if err := c.Reduce(t.Context(), Buffer{}, Host(shared[:count]), Sum, 0); err != nil {
			return err
		}
		shared[0] = 1000 // it is the caller's again
		return r.Wait(t.Context())
	})
	if err := g.DestroyStream(free); err != nil {
		t.Error(err)
	}
}

// TestDeviceContextEndsWithTheCall: a context that ends when the result is there already breaks nothing.
func TestDeviceContextEndsWithTheCall(t *testing.T) {
	comms, _ := newGPUWorld(t, []int{0}, smallDeviceChunks)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r := &Request{ctx: ended, done: make(chan struct{})}
	close(r.done)
	for range 100 {
		if err := r.await(comms[0]); err != nil {
			t.Fatal(err)
		}
	}
	if err := comms[0].Barrier(t.Context()); err != nil {
		t.Error(err)
	}
}
