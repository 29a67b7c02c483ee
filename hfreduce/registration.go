// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// registrations are what a Comm has made known to a transport that needs it (RDMA): the segment, once, and the memory of
// Alloc. A Comm on a single node registers nothing.
type registrations struct {
	registrar transport.Registrar // nil: nothing needs to be known

	mu       sync.Mutex
	segment  func() error
	memories map[*Memory]func() error
}

// registerSegment makes the segment known, from which the links send and in which they land.
func (c *Comm) registerSegment() error {
	registrar, ok := c.fabric.transport().(transport.Registrar)
	if !ok || len(c.layout.Nodes) == 1 {
		return nil
	}
	unregister, err := registrar.Register(c.segment.Base())
	if err != nil {
		return fmt.Errorf("register the shared memory of node %d: %w", c.Node(), err)
	}
	c.registered = registrations{registrar: registrar, segment: unregister, memories: map[*Memory]func() error{}}
	return nil
}

// add makes memory of Alloc known. What cannot be is copied into the segment before it is sent.
func (r *registrations) add(m *Memory) {
	if r.registrar == nil {
		return
	}
	unregister, err := r.registrar.Register(m.Bytes())
	if err != nil {
		m.comm.log.Info("memory of Alloc is sent through the segment", "bytes", len(m.Bytes()), "cause", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memories == nil { // the Comm was closed meanwhile, and the memory is about to go
		_ = unregister()
		return
	}
	r.memories[m] = unregister
}

// remove takes it back.
func (r *registrations) remove(m *Memory) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	unregister := r.memories[m]
	if unregister == nil {
		return nil
	}
	delete(r.memories, m)
	return unregister()
}

// close takes everything back. The links are closed.
func (r *registrations) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, unregister := range r.memories {
		errs = append(errs, unregister())
	}
	if r.segment != nil {
		errs = append(errs, r.segment())
	}
	r.memories, r.segment = nil, nil
	return errors.Join(errs...)
}
