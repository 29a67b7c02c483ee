// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"sync/atomic"
	"syscall"
)

// handle is the address of an object of libibverbs, 0 for none. It is an integer so that the garbage collector and
// cgo's checks leave it alone.
type handle uintptr

// kind tells the objects of libibverbs apart.
type kind int

// The values are those of seam.h.
const (
	kindDevice kind = iota
	kindPD
	kindMR
	kindChannel
	kindCQ
	kindQP
	kinds
)

// String returns the name that Live uses.
func (k kind) String() string { return [...]string{"device", "pd", "mr", "channel", "cq", "qp"}[k] }

// verb returns the C function that gives the object back.
func (k kind) verb() string {
	return [...]string{"ibv_close_device", "ibv_dealloc_pd", "ibv_dereg_mr", "ibv_destroy_comp_channel", "ibv_destroy_cq", "ibv_destroy_qp"}[k]
}

// live counts the objects that libibverbs has.
var live [kinds]atomic.Int64

// Live returns how many objects of each kind exist: "device", "pd", "mr", "channel", "cq", "qp"; kinds without any are
// left out, so that an empty map says that all was closed. An object counts until libibverbs gave it back, which is
// after Close while others are made of it, and never if libibverbs refuses.
func Live() map[string]int {
	m := map[string]int{}
	for k := range kinds {
		if n := live[k].Load(); n != 0 {
			m[k.String()] = int(n)
		}
	}
	return m
}

// object is what wraps an object of libibverbs: it keeps what it is made of, and itself while a call uses it.
//
//	open, n holds ── Close ──> closed, n holds ── last drop ──> destroyed
//
// A hold is taken for the length of a call, and by each object that is made of this one for its life.
type object struct {
	kind    kind
	handle  handle
	device  string // its name, for errors
	parents []*object
	destroy func(kind, handle) syscall.Errno
	state   atomic.Int64 // the number of holds, and closedBit
}

const closedBit = 1 << 62

// create makes the object by calling build, and holds the parents from before that until it is destroyed.
func (o *object) create(k kind, device string, build func() (handle, error), parents ...*object) error {
	for i, p := range parents {
		if !p.hold() {
			return both(ErrClosed, drop(parents[:i]))
		}
	}
	h, err := build()
	if err != nil {
		return both(err, drop(parents))
	}
	o.kind, o.handle, o.device, o.parents = k, h, device, parents
	if o.destroy == nil {
		o.destroy = rawDestroy
	}
	live[k].Add(1)
	return nil
}

// hold keeps the object from being destroyed; false if it is closed.
func (o *object) hold() bool {
	for {
		s := o.state.Load()
		if s&closedBit != 0 {
			return false
		}
		if o.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// drop ends a hold, and destroys the object if that was the last one and it is closed.
func (o *object) drop() error {
	if o.state.Add(-1) != closedBit {
		return nil
	}
	return o.end()
}

// close marks the object closed, and destroys it unless it is held.
func (o *object) close() error {
	for {
		s := o.state.Load()
		if s&closedBit != 0 {
			return nil
		}
		if !o.state.CompareAndSwap(s, s|closedBit) {
			continue
		}
		if s != 0 {
			return nil
		}
		return o.end()
	}
}

// end destroys the object and lets go of its parents. What libibverbs refuses to give back stays in Live.
func (o *object) end() error {
	err := failed(o.destroy(o.kind, o.handle), o.kind.verb(), "on "+o.device)
	if err == nil {
		live[o.kind].Add(-1)
	}
	return both(err, drop(o.parents))
}

// with calls f while the object is held.
func (o *object) with(f func() error) error {
	if !o.hold() {
		return ErrClosed
	}
	return both(f(), o.drop())
}

// root returns the device that the object is of.
func (o *object) root() *object {
	for len(o.parents) > 0 {
		o = o.parents[0]
	}
	return o
}

// failed returns the error of a call on the object's device, nil if errno is 0.
func (o *object) failed(errno syscall.Errno, verb, of string) error {
	if of != "" {
		of += " "
	}
	return failed(errno, verb, of+"on "+o.device)
}

func drop(objects []*object) (err error) {
	for _, o := range objects {
		err = both(err, o.drop())
	}
	return err
}
