// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hostmem"
)

// Memory is a piece of the node's shared memory, made by Comm.Alloc. Collectives on the same Comm read it in place:
// its data is not copied into the segment first, and results in place are written by other ranks. It lies outside the Go
// heap and is zero at first. After a collective on it has failed, ranks that have not heard of that yet may still write to
// it: its contents mean nothing any more, also if they are set anew.
type Memory struct {
	comm  *Comm
	block hostmem.Block
	freed atomic.Bool
}

// memories counts a Comm's live Memory.
type memories struct {
	live  atomic.Int64
	bytes atomic.Int64
}

// Alloc returns bytes of zeroed memory in the node's segment, aligned to 4096 bytes. It is not a collective: each rank
// allocates what it likes. Free it, or Close the Comm, when no collective uses it any more.
func (c *Comm) Alloc(bytes int64) (*Memory, error) {
	if bytes <= 0 {
		return nil, invalidf("Alloc of %d bytes; give a positive size", bytes)
	}
	if err := c.usable(); err != nil {
		return nil, err
	}
	block, err := c.segment.Alloc(bytes)
	if err != nil {
		return nil, fmt.Errorf("hfreduce: Alloc on rank %d: %w", c.rank, err)
	}
	c.memories.live.Add(1)
	c.memories.bytes.Add(bytes)
	m := &Memory{comm: c, block: block}
	c.registered.add(m)
	return m, nil
}

// Bytes returns the memory. It must not be used after Free or Comm.Close.
func (m *Memory) Bytes() []byte { return m.block.Bytes() }

// Free gives the memory back to the system. A second call returns ErrClosed.
func (m *Memory) Free() error {
	if m.freed.Swap(true) {
		return fmt.Errorf("hfreduce: Memory.Free: already freed: %w", ErrClosed)
	}
	if m.comm.closed.Load() {
		return nil // went with the segment
	}
	m.comm.memories.live.Add(-1)
	m.comm.memories.bytes.Add(-int64(len(m.block.Bytes())))
	return errors.Join(m.comm.registered.remove(m), m.comm.segment.Free(m.block))
}

// View returns the memory as a slice of T, as long as whole elements fit. Host(View[T](m)) is the Buffer over it.
func View[T Element](m *Memory) []T {
	var zero T
	b := m.Bytes()
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(zero)))
}

// offset returns where a buffer lies in this rank's part of the shared memory.
func (m *memories) offset(s *hostmem.Segment, b Buffer) (int64, bool) {
	if m.live.Load() == 0 || b.bytes == 0 || b.device() {
		return 0, false
	}
	return s.Own(b.p, int64(b.bytes))
}
