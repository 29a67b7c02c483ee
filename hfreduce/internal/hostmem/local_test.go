// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"sync"
	"testing"
	"unsafe"
)

func TestLocalBase(t *testing.T) {
	for _, bytes := range []int64{1, 63, 64, 4097} {
		segments := NewLocal(4, bytes, 1<<20)
		for i, s := range segments {
			if int64(len(s.Base())) != bytes || int64(cap(s.Base())) != bytes || &s.Base()[0] != &segments[0].Base()[0] {
				t.Errorf("member %d: base of %d bytes, capacity %d", i, len(s.Base()), cap(s.Base()))
			}
			if uintptr(unsafe.Pointer(&s.Base()[0]))%localAlign != 0 {
				t.Errorf("member %d: base at %p", i, &s.Base()[0])
			}
			if s.EventFD(i) != -1 {
				t.Errorf("member %d has an eventfd", i)
			}
		}
		for _, s := range segments {
			_ = s.Close()
		}
	}
}

// A thousand members cost no mapping until an arena is used, and none after the last Close.
func TestLocalMapsLazily(t *testing.T) {
	segments := NewLocal(1000, 4096, 1<<36)
	if n := LiveMappings(); n != 0 {
		t.Errorf("%d mappings before any arena is used", n)
	}
	mustAlloc(t, segments[999], 100)
	arena(t, segments[0], 999)
	if n := LiveMappings(); n != 1 {
		t.Errorf("%d mappings of one arena", n)
	}
	var group sync.WaitGroup
	for _, s := range segments {
		group.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := LiveMappings(); n != 0 {
		t.Errorf("%d mappings after Close", n)
	}
}
