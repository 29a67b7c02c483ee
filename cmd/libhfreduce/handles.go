// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// table gives numbers to what C refers to. No number is given twice.
type table[T any] struct {
	what string // for errors
	mu   sync.Mutex
	last uint64
	all  map[uint64]*T
}

func (t *table[T]) add(x *T) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[uint64]*T{}
	}
	t.last++
	t.all[t.last] = x
	return t.last
}

// get returns what a number stands for.
func (t *table[T]) get(n uint64) (*T, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.all[n]; x != nil {
		return x, nil
	}
	if n > 0 && n <= t.last {
		return nil, fmt.Errorf("%w: %s %d has come to its end", hfreduce.ErrInvalid, t.what, n)
	}
	return nil, fmt.Errorf("%w: %d is no %s", hfreduce.ErrInvalid, n, t.what)
}

// remove forgets a number, and reports whether it was known.
func (t *table[T]) remove(n uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.all[n]
	delete(t.all, n)
	return known
}

// comm is a communicator with the memory that C has of it.
type comm struct {
	*hfreduce.Comm
	mu     sync.Mutex
	memory map[uintptr]*hfreduce.Memory // by address: what C gives back may be anything, and a pointer of Go's must not
}

// A library of C functions has no other place for what they refer to.
var (
	comms    = table[comm]{what: "hfr_comm"}
	requests = table[hfreduce.Request]{what: "hfr_request"}
)

// alloc returns memory of a communicator.
func (c *comm) alloc(bytes int64) (unsafe.Pointer, error) {
	m, err := c.Alloc(bytes)
	if err != nil {
		return nil, err
	}
	p := unsafe.Pointer(unsafe.SliceData(m.Bytes()))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.memory == nil {
		c.memory = map[uintptr]*hfreduce.Memory{}
	}
	c.memory[uintptr(p)] = m
	return p, nil
}

// free gives it back.
func (c *comm) free(p uintptr) error {
	c.mu.Lock()
	m := c.memory[p]
	delete(c.memory, p)
	c.mu.Unlock()
	if m == nil {
		return fmt.Errorf("%w: hfr_free: %#x is not from hfr_alloc of this communicator", hfreduce.ErrInvalid, p)
	}
	return m.Free()
}
