// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// The seeds of what is not verified and of the first verification.
const (
	timingSeed = 99
	firstSeed  = 1
)

// sizes yields the sizes of a test; a barrier has but one.
func (r *rank) sizes(t test) iter.Seq[int64] { return r.sizesOf(t, r.cfg.Sizes()) }

func (r *rank) sizesOf(t test, all iter.Seq[int64]) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for size := range all {
			if t.collective == Barrier {
				yield(0)
				return
			}
			if size > r.max || !yield(size) {
				return
			}
		}
	}
}

// warmUp makes untimed calls of growing sizes, so that connections stand and memory is mapped.
func (r *rank) warmUp(ctx context.Context, t test) error {
	for size := range r.sizesOf(t, r.cfg.warmupSizes()) {
		s := t.collective.shape(size, t.elem(), r.ranks)
		w := r.walk(t, s, false)
		for i := range r.cfg.Warmup {
			if err := w.iteration(i).run(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// walk makes the calls of one size. Like nccl-tests it walks through the buffers, as far as they are larger than what it
// moves, so that not all data comes from the cache.
type walk struct {
	call
	dtype          hfreduce.DataType
	from, to       *area // of the payloads
	fromAt, toAt   int64 // where they begin in iteration 0
	send, recv     int64 // bytes of the payloads
	step, distance int64 // bytes between iterations, and after how many bytes the walk begins again
}

func (r *rank) walk(t test, s shape, inPlace bool) walk {
	elem := int64(t.elem())
	w := walk{
		call:  call{collective: t.collective, comm: r.comm, op: t.op.public(t.dtype, r.number), root: t.root},
		dtype: t.dtype, send: s.send * elem, recv: s.recv * elem,
	}
	if w.step = max(w.send, w.recv); w.step > 0 {
		w.distance = r.max / w.step * w.step
	}
	src, srcAt, dstAt := &r.send, int64(0), int64(0)
	if inPlace {
		src = &r.recv
		srcAt, dstAt = s.sendAt*elem*int64(r.number), s.recvAt*elem*int64(r.number)
	}
	unalign := int64(r.cfg.Unalign) * elem
	w.from, w.to = src, &r.recv
	w.fromAt, w.toAt = guardBytes+unalign+srcAt, guardBytes+unalign+dstAt
	return w
}

// iteration returns the call of an iteration, until the next one is asked for.
func (w *walk) iteration(n int) *call {
	skip := int64(0)
	if w.step > 0 {
		skip = w.step * int64(n) % w.distance
	}
	w.src, w.dst = w.from.buffer(w.fromAt+skip, w.send, w.dtype), w.to.buffer(w.toAt+skip, w.recv, w.dtype)
	return &w.call
}

// measure times calls of one size and verifies the result, within Config.Timeout.
func (r *rank) measure(ctx context.Context, t test, s shape, inPlace bool) (cell, error) {
	if r.cfg.Timeout == 0 {
		return r.measureAndCheck(ctx, t, s, inPlace)
	}
	limited, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	c, err := r.measureAndCheck(limited, t, s, inPlace)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("not done within %v (-T): %w", r.cfg.Timeout, err)
	}
	return c, err
}

func (r *rank) measureAndCheck(ctx context.Context, t test, s shape, inPlace bool) (cell, error) {
	if r.cfg.Check > 0 {
		if err := r.fillAll(ctx, r.windows(t, s, inPlace), t, timingSeed); err != nil {
			return cell{}, err
		}
	}
	w := r.walk(t, s, inPlace)
	if err := w.iteration(0).run(ctx); err != nil {
		return cell{}, err
	}
	if err := r.control.barrier(ctx); err != nil {
		return cell{}, err
	}
	tm, err := r.time(ctx, &w)
	if err != nil {
		return cell{}, err
	}
	c, err := r.combine(ctx, t, s, tm)
	if err != nil {
		return cell{}, err
	}
	c.wrong, err = r.check(ctx, t, s, inPlace)
	return c, err
}

// timing is what one rank measured, in seconds.
type timing struct {
	call   float64   // from start to end of a call
	launch float64   // to start a call
	phases phases    // with Config.Phases
	iters  []float64 // a call of each iteration, with Config.PerIter
}

// combine makes one figure of the ranks' times and waits for all of them.
func (r *rank) combine(ctx context.Context, t test, s shape, tm timing) (cell, error) {
	seconds, err := r.control.average(ctx, tm.call, r.cfg.Average)
	if err != nil {
		return cell{}, err
	}
	c := cell{seconds: seconds}
	if r.cfg.CPUTime {
		c.seconds = tm.launch
	}
	c.alg, c.bus = t.collective.bandwidth(s, t.elem(), r.ranks, seconds)
	if r.cfg.PerIter {
		all, err := r.control.gather(ctx, tm.iters)
		if err != nil {
			return cell{}, err
		}
		c.processes = processTimes(all, r.cfg.Iters, r.cfg.RanksPerProcess())
		c.iters = slowest(c.processes)
		c.stats = statsOf(c.iters[r.cfg.PerIterSkip:])
	}
	if r.cfg.Phases && t.collective != Barrier {
		if c.phases, err = r.meanPhases(ctx, tm.phases); err != nil {
			return cell{}, err
		}
	}
	return c, r.control.barrier(ctx)
}

// launches are the times to start calls.
type launches struct{ sum, longest time.Duration }

func (l *launches) add(took time.Duration) { l.sum, l.longest = l.sum+took, max(l.longest, took) }

// time makes the timed calls.
func (r *rank) time(ctx context.Context, w *walk) (tm timing, err error) {
	if r.onGPU(w) {
		return r.timeOnGPU(ctx, w)
	}
	return r.timeCalls(ctx, w, new(launches))
}

func (r *rank) timeCalls(ctx context.Context, w *walk, launch *launches) (tm timing, err error) {
	if r.cfg.PerIter {
		tm.iters = make([]float64, r.cfg.Iters)
	}
	var apart time.Duration // what does not count
	begin := r.clock()
	last := begin
	for i := range r.cfg.Iters {
		if err := r.iteration(ctx, w, i, launch); err != nil {
			return tm, err
		}
		if !r.cfg.PerIter && r.cfg.Blocking != BarrierPerIters {
			continue
		}
		now := r.clock()
		if r.cfg.PerIter {
			tm.iters[i] = (now - last).Seconds() / float64(r.cfg.Aggregate)
		}
		if last = now; r.cfg.Blocking == BarrierPerIters {
			if err := r.control.barrier(ctx); err != nil {
				return tm, err
			}
			last = r.clock()
			apart += last - now
		}
	}
	if err := r.synchronize(w); err != nil {
		return tm, err
	}
	calls := float64(r.cfg.Iters * r.cfg.Aggregate)
	tm.call = (r.clock() - begin - apart).Seconds() / calls
	tm.launch = launch.sum.Seconds() / calls
	return tm, nil
}

// iteration makes the calls of one iteration: one by one where each is waited for, else all in flight together. launch
// grows by the time to start them, where they are started without waiting.
func (r *rank) iteration(ctx context.Context, w *walk, i int, launch *launches) error {
	if r.onGPU(w) {
		return r.submit(ctx, w, i, launch)
	}
	together := r.cfg.Aggregate
	if r.cfg.Blocking == WaitAndBarrier || r.cfg.Blocking == WaitOnly {
		together = 1
	}
	for first := 0; first < r.cfg.Aggregate; first += together {
		n := i*r.cfg.Aggregate + first
		if together == 1 && !r.cfg.CPUTime {
			if err := w.iteration(n).run(ctx); err != nil {
				return err
			}
		} else if err := r.flight(ctx, w, n, together, launch); err != nil {
			return err
		}
		if r.cfg.Blocking == WaitAndBarrier {
			if err := r.control.barrier(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// flight starts calls and waits for all of them.
func (r *rank) flight(ctx context.Context, w *walk, n, together int, launch *launches) error {
	r.requests = r.requests[:0]
	begin := r.clock()
	for k := range together {
		request, err := w.iteration(n + k).start()
		if err != nil {
			return err
		}
		r.requests = append(r.requests, request)
	}
	launch.add(r.clock() - begin)
	for _, request := range r.requests {
		if err := request.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}
