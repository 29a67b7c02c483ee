// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce"
)

// inFlight is how many collectives each rank has started and not seen the end of: two, so that the copy engines find the
// next one waiting, as in training.
const inFlight = 2

// world is the ranks and when they end.
type world struct {
	ranks []*rank
	wg    sync.WaitGroup

	mu    sync.Mutex
	limit int64 // no rank starts more collectives; all start equally many, or some would wait for ever
	ahead int64 // what the first rank has started
}

// rank is one rank, its GPU and what it has there.
type rank struct {
	world  *world
	comm   *hfreduce.Comm
	device *cuda.Device
	stream cuda.Stream
	buffer hfreduce.Buffer
	memory cuda.Ptr
	done   atomic.Int64
	err    error // of its loop; read after world.wg
}

func newWorld(ranks int, bytes int64, dtype hfreduce.DataType) (*world, error) {
	if ranks < 1 || bytes < 1 || !dtype.Valid() || bytes%int64(dtype.Size()) != 0 {
		return nil, fmt.Errorf("inprocess: %d ranks with %d bytes of %v cannot be", ranks, bytes, dtype)
	}
	gpus, err := cuda.DeviceCount()
	if err != nil {
		return nil, err
	}
	w := &world{limit: math.MaxInt64}
	for i := range ranks {
		r := &rank{world: w}
		w.ranks = append(w.ranks, r)
		if err := r.open(i%gpus, bytes, dtype); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	comms, err := hfreduce.NewLocal(make([]int, ranks), hfreduce.Options{CUDA: hfreduce.CUDAOn})
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	first := make(chan error, ranks)
	for i, r := range w.ranks {
		r.comm = comms[i]
		w.wg.Go(func() { r.loop(first) })
	}
	for range ranks {
		err = errors.Join(err, <-first)
	}
	if err != nil {
		w.wg.Wait() // they abort each other
		return nil, w.close()
	}
	return w, nil
}

// end lets all ranks do what one of them has started, and waits.
func (w *world) end() error {
	w.mu.Lock()
	w.limit = w.ahead
	w.mu.Unlock()
	w.wg.Wait()
	return w.close()
}

// close gives back what the ranks have and returns what went wrong.
func (w *world) close() error {
	errs := make([]error, len(w.ranks))
	var wg sync.WaitGroup
	for i, r := range w.ranks { // at the same time: Comm.Close waits for all ranks
		wg.Go(func() { errs[i] = errors.Join(r.err, r.close()) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// done returns how many collectives are done on all ranks.
func (w *world) done() int64 {
	least := int64(math.MaxInt64)
	for _, r := range w.ranks {
		least = min(least, r.done.Load())
	}
	return least
}

// mayStart counts one more collective of a rank that has started n, unless it is time to end.
func (w *world) mayStart(n int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n >= w.limit {
		return false
	}
	w.ahead = max(w.ahead, n+1)
	return true
}

// open makes a stream and a buffer of zeros. It fills it by a copy: a memset may be a kernel of CUDA's.
func (r *rank) open(ordinal int, bytes int64, dtype hfreduce.DataType) (err error) {
	if r.device, err = cuda.Open(ordinal); err != nil {
		return err
	}
	if r.stream, err = r.device.NewStream(false); err != nil {
		return err
	}
	if r.memory, err = r.device.Malloc(bytes); err != nil {
		return err
	}
	zeros, err := r.device.HostAlloc(min(bytes, 1<<20))
	if err != nil {
		return err
	}
	size := int64(len(zeros.Bytes()))
	for at := int64(0); at < bytes && err == nil; at += size {
		err = r.device.Memcpy(r.memory+cuda.Ptr(at), zeros.HostPtr(0), min(size, bytes-at), cuda.ToDevice)
	}
	r.buffer = hfreduce.Device(r.memory, int(bytes)/dtype.Size(), dtype, r.stream)
	return errors.Join(err, zeros.Close())
}

// close gives back what open made, as far as it came, and the communicator.
func (r *rank) close() error {
	var errs []error
	if r.comm != nil {
		errs = append(errs, r.comm.Close(context.Background()))
	}
	if r.stream != 0 {
		errs = append(errs, r.device.Synchronize(r.stream), r.device.DestroyStream(r.stream))
	}
	if r.memory != 0 {
		errs = append(errs, r.device.Free(r.memory))
	}
	return errors.Join(errs...)
}

// loop starts collectives, inFlight at a time, until the world ends, and says on first when one is done or has failed.
func (r *rank) loop(first chan<- error) {
	var started []*hfreduce.Request
	said := false
	wait := func() {
		err := started[0].Wait(context.Background())
		started = started[1:]
		if err != nil {
			r.err = errors.Join(r.err, err)
			return
		}
		if r.done.Add(1); !said {
			first <- nil
			said = true
		}
	}
	for n := int64(0); r.err == nil && r.world.mayStart(n); n++ {
		request, err := r.comm.AllReduceAsync(r.buffer, r.buffer, hfreduce.Sum)
		if err != nil {
			r.err = err
			break
		}
		if started = append(started, request); len(started) == inFlight {
			wait()
		}
	}
	for len(started) > 0 {
		wait()
	}
	if r.err != nil {
		r.comm.Abort(r.err) // so that no other rank waits for this one
	}
	if !said {
		first <- r.err
	}
}
