// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
)

// onGPU reports whether the calls are on GPU memory; a barrier has none.
func (r *rank) onGPU(w *walk) bool { return r.gpu != nil && w.collective != Barrier }

// timeOnGPU makes the timed calls on GPU memory. As nccl-tests does, it gives them to the stream one after the other and
// waits for the stream once, behind the last; the requests only tell of errors.
func (r *rank) timeOnGPU(ctx context.Context, w *walk) (tm timing, err error) {
	// CUDA's wait knows no context; a broken communicator lets go of its streams.
	stop := context.AfterFunc(ctx, func() { r.comm.Abort(fmt.Errorf("bench: %w", context.Cause(ctx))) })
	defer stop()
	r.requests = r.requests[:0]
	var launch launches
	before := r.cfg.hooks.stats(r.comm)
	if tm, err = r.timeCalls(ctx, w, &launch); err != nil {
		return tm, err
	}
	for _, request := range r.requests {
		if err := request.Wait(ctx); err != nil {
			return tm, err
		}
	}
	tm.phases = phasesBetween(before, r.cfg.hooks.stats(r.comm), r.cfg.Iters*r.cfg.Aggregate, max(w.send, w.recv))
	tm.phases.callMean, tm.phases.callMax = tm.launch, launch.longest.Seconds()
	return tm, nil
}

// submit starts the calls of one iteration, and waits where the configuration says so. With statistics over iterations each
// is waited for: what a call that is only started takes says nothing.
func (r *rank) submit(ctx context.Context, w *walk, i int, launch *launches) error {
	each := r.cfg.Blocking == WaitAndBarrier || r.cfg.Blocking == WaitOnly
	for k := range r.cfg.Aggregate {
		begin := r.clock()
		request, err := w.iteration(i*r.cfg.Aggregate + k).start()
		if err != nil {
			return err
		}
		launch.add(r.clock() - begin)
		r.requests = append(r.requests, request)
		if each {
			if err := r.synchronize(w); err != nil {
				return err
			}
		}
		if r.cfg.Blocking == WaitAndBarrier {
			if err := r.control.barrier(ctx); err != nil {
				return err
			}
		}
	}
	if r.cfg.PerIter || r.cfg.Blocking == BarrierPerIters {
		return r.synchronize(w)
	}
	return nil
}

// synchronize waits for what was given to the stream.
func (r *rank) synchronize(w *walk) error {
	if !r.onGPU(w) {
		return nil
	}
	return r.gpu.Synchronize(r.gpu.stream)
}
