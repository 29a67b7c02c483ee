// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"errors"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// TestAllocatorProperties compares the allocator with a list of what it gave out.
func TestAllocatorProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		arena := rapid.Int64Range(1, 64).Draw(t, "arena MiB") << 20
		var a allocator
		given := map[int64]int64{} // offset to requested bytes
		t.Repeat(map[string]func(*rapid.T){
			"alloc": func(t *rapid.T) {
				bytes := rapid.Int64Range(1, 5<<20).Draw(t, "bytes")
				off, ok := a.alloc(bytes, arena)
				if !ok {
					if len(given) == 0 && roundUp(bytes, grain(bytes)) <= arena {
						t.Fatalf("an empty arena of %d bytes has no room for %d", arena, bytes)
					}
					return
				}
				if off%grain(bytes) != 0 || off+bytes > arena {
					t.Fatalf("%d bytes at %d", bytes, off)
				}
				for o, n := range given {
					if off < o+n && o < off+bytes {
						t.Fatalf("%d bytes at %d overlap %d at %d", bytes, off, n, o)
					}
				}
				given[off] = bytes
			},
			"free": func(t *rapid.T) {
				for off, bytes := range given {
					if n, ok := a.free(off); !ok || n < bytes {
						t.Fatalf("free of %d bytes at %d gave %d, %v", bytes, off, n, ok)
					}
					delete(given, off)
					return
				}
				if _, ok := a.free(4096); ok {
					t.Fatal("freed what was not allocated")
				}
			},
			"": func(t *rapid.T) {
				for off, bytes := range given {
					if !a.inside(off, bytes) || !a.inside(off+bytes-1, 1) || a.inside(off, roundUp(bytes, grain(bytes))+1) {
						t.Fatalf("inside is wrong for %d bytes at %d", bytes, off)
					}
				}
				if len(given) == 0 && (a.used != 0 || a.inside(0, 1)) {
					t.Fatalf("%d bytes in use, none given", a.used)
				}
			},
		})
	})
}

func TestLocalSegments(t *testing.T) {
	members := NewLocal(3, 1000, 1<<30)
	for _, m := range members {
		if &m.Base()[0] != &members[0].Base()[0] || uintptr(unsafe.Pointer(&m.Base()[0]))%lineBytes != 0 || len(m.Base()) != 1000 {
			t.Fatal("members do not share an aligned base of 1000 bytes")
		}
	}
	b, err := members[1].Alloc(3 << 20)
	if err != nil {
		t.Fatal(err)
	}
	b.Bytes()[5] = 9
	arena, err := members[2].Arena(1)
	if err != nil || arena[b.Offset()+5] != 9 {
		t.Fatalf("member 2 does not see member 1's block (%v)", err)
	}
	if off, ok := members[1].Own(unsafe.Pointer(&b.Bytes()[8]), 100); !ok || off != b.Offset()+8 {
		t.Errorf("Own gives %d, %v", off, ok)
	}
	if _, ok := members[2].Own(unsafe.Pointer(&b.Bytes()[0]), 1); ok {
		t.Error("member 2 owns member 1's block")
	}
	if _, ok := members[1].Own(unsafe.Pointer(&b.Bytes()[0]), 5<<20); ok {
		t.Error("Own takes more than the block")
	}
	if _, err := members[0].Alloc(2 << 30); err == nil {
		t.Error("allocated more than the arena")
	}
	if err := members[1].Free(b); err != nil {
		t.Fatal(err)
	}
	if err := members[1].Free(b); err == nil {
		t.Error("freed twice")
	}
	for _, m := range members {
		if err := errors.Join(m.Close(), m.Close()); err != nil {
			t.Error(err)
		}
		if _, err := m.Alloc(1); !errors.Is(err, ErrClosed) {
			t.Errorf("Alloc after Close: %v", err)
		}
		if _, err := m.Arena(0); !errors.Is(err, ErrClosed) {
			t.Errorf("Arena after Close: %v", err)
		}
	}
}
