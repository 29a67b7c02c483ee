// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"sync"
	"sync/atomic"
)

// queue runs a communicator's collectives one after the other, in the order in which they were given. A blocking call
// that finds nothing before it runs on its caller's goroutine; what is asynchronous, or has to wait, runs on a
// goroutine that exists while there is work.
type queue struct {
	state atomic.Uint32

	mu      sync.Mutex
	pending []*Request
	idle    chan struct{} // closed and forgotten when the queue rests, nil while nobody waits for that
}

// The states of a queue. Without mu it goes from resting to running and back, which is all that a blocking call by itself
// does; every other step is under mu.
const (
	resting = iota // nobody runs collectives
	running        // somebody does, and nobody waits
	waited         // somebody does; there are requests, or somebody waits for the rest
)

// enter reports whether the caller may run now. If so it must call leave afterwards.
func (q *queue) enter() bool { return q.state.CompareAndSwap(resting, running) }

// leave ends what enter began.
func (q *queue) leave(c *Comm) {
	draining := c.devices.made && c.engine.Draining()
	if !draining && q.state.CompareAndSwap(running, resting) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if draining {
		q.await()
	}
	if len(q.pending) > 0 || draining {
		go q.work(c)
		return
	}
	q.rest()
}

// rest lets the queue rest. q.mu is held.
func (q *queue) rest() {
	q.state.Store(resting)
	if q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
}

// await makes whoever runs now look at what is pending when it leaves; it reports false if nobody runs. q.mu is held.
func (q *queue) await() bool {
	for {
		switch q.state.Load() {
		case resting:
			return false
		case waited:
			return true
		}
		if q.state.CompareAndSwap(running, waited) {
			return true
		}
	}
}

// submit queues a request.
func (q *queue) submit(c *Comm, r *Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending = append(q.pending, r)
	for !q.await() {
		if q.state.CompareAndSwap(resting, waited) {
			go q.work(c)
			return
		}
	}
}

// work runs requests until none is left.
func (q *queue) work(c *Comm) {
	defer c.devices.gpu.Load().bind(c)()
	for {
		if !q.waiting() {
			c.drainDevices()
		}
		q.mu.Lock()
		if len(q.pending) == 0 {
			q.rest()
			q.mu.Unlock()
			return
		}
		r := q.pending[0]
		q.pending[0] = nil
		q.pending = q.pending[1:]
		q.mu.Unlock()
		c.call = r.call
		c.finish(r, c.execute(r.ctx))
	}
}

// waiting reports whether a request is queued.
func (q *queue) waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending) > 0
}

// drain waits until nothing runs and nothing is queued.
func (q *queue) drain(ctx context.Context) error {
	q.mu.Lock()
	if !q.await() {
		q.mu.Unlock()
		return nil
	}
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle := q.idle
	q.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Request is a collective that was started by one of the Async methods. It is done exactly once.
type Request struct {
	call call
	ctx  context.Context
	done chan struct{}
	err  error
}

// Done returns a channel that is closed when the collective has ended and its buffers are the caller's again.
func (r *Request) Done() <-chan struct{} { return r.done }

// Err returns the collective's error once it is done, and nil before.
func (r *Request) Err() error {
	select {
	case <-r.done:
		return r.err
	default:
		return nil
	}
}

// Wait waits for the collective and returns its error. When ctx ends first it returns ctx's error; the collective goes
// on and its buffers stay in use until Done.
func (r *Request) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
