// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// localAlign is the alignment of a local base.
const localAlign = 4096 // a page: CUDA registers whole ones

// NewLocal returns the segments of members that are goroutines of this process. The base lies on the Go heap, so that
// the race detector sees how it is used; arenas are mapped when they are first used and unmapped with the last Close.
func NewLocal(size int, bytes, arenaBytes int64) []*Segment {
	base := make([]byte, bytes+localAlign)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(base))) % localAlign
	base = base[skip : skip+uintptr(bytes) : skip+uintptr(bytes)]
	arenaBytes = roundUp(arenaBytes, largeGrain)
	shared := &localShared{arena: arenaBytes, maps: make([][]byte, size), users: size}
	members := make([]*Segment, size)
	for i := range members {
		members[i] = &Segment{index: i, size: size, base: base, fd: -1, wanted: arenaBytes, arenas: &localArenas{shared: shared, index: i}}
	}
	return members
}

// localShared are the arenas of one process's members.
type localShared struct {
	arena int64
	mu    sync.Mutex
	maps  [][]byte
	users int
}

// localArenas is one member's use of them.
type localArenas struct {
	shared *localShared
	index  int
}

func (l *localArenas) bytes() int64 { return l.shared.arena }

func (l *localArenas) mapped(i int) []byte {
	l.shared.mu.Lock()
	defer l.shared.mu.Unlock()
	return l.shared.maps[i]
}

func (l *localArenas) get(i int) ([]byte, error) {
	s := l.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.maps[i] == nil && s.arena > 0 {
		b, err := mapPrivate(s.arena)
		if err != nil {
			return nil, err
		}
		s.maps[i] = b
	}
	return s.maps[i], nil
}

func (l *localArenas) punch(off, length int64) error {
	if err := unix.Madvise(l.mapped(l.index)[off:off+length], unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("hostmem: madvise(MADV_DONTNEED): %w", err)
	}
	return nil
}

func (l *localArenas) close() error {
	s := l.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	var errs []error
	for i, b := range s.maps {
		if b != nil {
			errs = append(errs, unmap(b))
			s.maps[i] = nil
		}
	}
	return errors.Join(errs...)
}
