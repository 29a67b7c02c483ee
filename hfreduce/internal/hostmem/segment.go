// SPDX-License-Identifier: Apache-2.0

// Package hostmem holds the memory that the ranks of a node share: a segment that all of them map, and for each rank an
// arena from which it allocates buffers that the others can read in place.
//
//	memfd:  base (Config.Bytes) | arena of member 0 (sparse) | arena of member 1 | ...
//
// The segment is a memfd. Member 0 makes it and hands it to the others over an abstract unix socket, so that nothing
// has a name in the file system: after SIGKILL of all members nothing is left, and the size of /dev/shm does not matter.
// That the descriptor arrives is the proof that two ranks are on one host.
//
// Arenas reserve address space and file size, not memory: pages come with the first write and go back with Free.
package hostmem

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrClosed is returned by methods of a Segment after Close.
var ErrClosed = errors.New("hostmem: segment is closed")

// MaxMembers is how many members a segment can have: SCM_RIGHTS carries at most 253 descriptors.
const MaxMembers = 250

// live counts the mappings of this process, for leak tests.
var live atomic.Int64

// LiveMappings returns how many mappings of segments and arenas this process holds.
func LiveMappings() int64 { return live.Load() }

// Segment is one member's view of a node's shared memory.
type Segment struct {
	index, size int
	base        []byte
	arenas      arenas
	own         allocator
	wanted      int64      // bytes of an arena that Config asked for
	eventFDs    []int      // duplicates, by member; nil without
	processes   []*Process // by member, nil where one is not known or was taken

	mu     sync.Mutex
	fd     int // the memfd, -1 in one process
	closed bool
}

// arenas maps the members' arenas on first use. Implementations are used under Segment.mu.
type arenas interface {
	bytes() int64               // size of each
	get(i int) ([]byte, error)  // maps the arena of member i
	mapped(i int) []byte        // nil if it is not
	punch(off, len int64) error // gives the own arena's memory back
	close() error               // ends this member's use
}

// Base returns the shared memory of Config.Bytes bytes, zero at first and aligned to a page (in one process to a cache
// line). It must not be used after Close.
func (s *Segment) Base() []byte { return s.base }

// EventFD returns this process's duplicate of a member's eventfd, -1 if it gave none. The segment owns it.
func (s *Segment) EventFD(i int) int {
	if s.eventFDs == nil {
		return -1
	}
	return s.eventFDs[i]
}

// TakeProcess returns the process of member i, this one included, and makes it the caller's. It returns nil if the process is
// not known, as in one process, or was taken.
func (s *Segment) TakeProcess(i int) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i >= len(s.processes) {
		return nil
	}
	p := s.processes[i]
	s.processes[i] = nil
	return p
}

// Arena returns the arena of member i, mapping it when it is first asked for. Only blocks that its owner allocated hold
// data. Errors: the mapping was refused, usually for a limit on address space, which the error names.
func (s *Segment) Arena(i int) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if i < 0 || i >= s.size {
		return nil, fmt.Errorf("hostmem: there is no member %d among %d", i, s.size)
	}
	return s.arenas.get(i)
}

// Block is memory from the own arena.
type Block struct {
	bytes  []byte
	offset int64
}

// Bytes returns the memory.
func (b Block) Bytes() []byte { return b.bytes }

// Offset returns where the block lies in its member's arena.
func (b Block) Offset() int64 { return b.offset }

// Alloc returns zeroed memory from the own arena, aligned to a page. A block of 2 MiB or more lies at a multiple of that in
// the arena. The error of a full arena says how big it is, how much is in use, and which limit made it smaller than asked.
func (s *Segment) Alloc(bytes int64) (Block, error) {
	if bytes <= 0 || bytes > math.MaxInt64/2 {
		return Block{}, fmt.Errorf("hostmem: cannot allocate %d bytes", bytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Block{}, ErrClosed
	}
	arena, err := s.arenas.get(s.index)
	if err != nil {
		return Block{}, err
	}
	off, ok := s.own.alloc(bytes, s.arenas.bytes())
	if !ok {
		return Block{}, s.full(bytes)
	}
	return Block{bytes: arena[off : off+bytes : off+bytes], offset: off}, nil
}

func (s *Segment) full(bytes int64) error {
	arena, why := s.arenas.bytes(), "free buffers that are not needed"
	if arena < s.wanted {
		why = fmt.Sprintf("the file size limit made it smaller than the %d bytes asked for: raise it (ulimit -f)", s.wanted)
	}
	return fmt.Errorf("hostmem: no room for %d bytes in this rank's arena of %d bytes, of which %d are in use; %s", bytes, arena, s.own.used, why)
}

// Free gives a block back to the system. The block must be from this segment's Alloc and not freed yet.
func (s *Segment) Free(b Block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	len, ok := s.own.free(b.offset)
	if !ok {
		return fmt.Errorf("hostmem: free of a block at %d that is not allocated", b.offset)
	}
	return s.arenas.punch(b.offset, len)
}

// Own returns where [p, p+bytes) lies in the own arena, if it is inside one allocated block. It allocates nothing.
func (s *Segment) Own(p unsafe.Pointer, bytes int64) (offset int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	arena := s.arenas.mapped(s.index)
	if s.closed || arena == nil {
		return 0, false
	}
	start := uintptr(unsafe.Pointer(unsafe.SliceData(arena)))
	if uintptr(p) < start || uintptr(p)-start >= uintptr(len(arena)) {
		return 0, false
	}
	offset = int64(uintptr(p) - start)
	return offset, s.own.inside(offset, bytes)
}

// Close unmaps the memory and closes the descriptors of this member; the others keep theirs. A second call does nothing.
func (s *Segment) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	errs := []error{s.arenas.close()}
	if s.fd >= 0 {
		errs = append(errs, unmap(s.base), unix.Close(s.fd))
	}
	s.base = nil
	closeProcesses(s.processes)
	s.processes = nil
	for _, fd := range s.eventFDs {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}
