// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// eachForm runs a test on the members of a segment, joined and local.
func eachForm(t *testing.T, size int, arenaBytes int64, f func(t *testing.T, segments []*Segment)) {
	t.Run("joined", func(t *testing.T) {
		checkDescriptors(t)
		c := config(size)
		c.ArenaBytes = arenaBytes
		f(t, joinAll(t, c))
	})
	t.Run("local", func(t *testing.T) {
		checkDescriptors(t)
		segments := NewLocal(size, smallGrain, arenaBytes)
		t.Cleanup(func() {
			for range 2 { // idempotent
				for i, s := range segments {
					if err := s.Close(); err != nil {
						t.Errorf("close of member %d: %v", i, err)
					}
				}
			}
		})
		f(t, segments)
	})
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

func TestAllocIsSeenByOthers(t *testing.T) {
	eachForm(t, 3, 8<<20, func(t *testing.T, segments []*Segment) {
		sizes := []int64{1, 5000, 3 << 20}
		blocks := make([][]Block, len(segments))
		for i, s := range segments {
			for k, size := range sizes {
				b := mustAlloc(t, s, size)
				if int64(len(b.Bytes())) != size || cap(b.Bytes()) != int(size) {
					t.Fatalf("block of %d bytes has length %d and capacity %d", size, len(b.Bytes()), cap(b.Bytes()))
				}
				if a := uintptr(unsafe.Pointer(&b.Bytes()[0])); a%smallGrain != 0 || b.Offset()%grain(size) != 0 {
					t.Errorf("block of %d bytes at address %#x, offset %d", size, a, b.Offset())
				}
				fill(b.Bytes(), byte(16*i+k+1))
				blocks[i] = append(blocks[i], b)
			}
		}
		for i := range segments {
			for k, b := range blocks[i] {
				want := bytes.Repeat([]byte{byte(16*i + k + 1)}, int(sizes[k]))
				for j, other := range segments {
					if !bytes.Equal(arena(t, other, i)[b.Offset():][:sizes[k]], want) {
						t.Errorf("member %d does not see block %d of member %d", j, k, i)
					}
				}
			}
		}
	})
}

func TestArenaIsMappedOnce(t *testing.T) {
	eachForm(t, 2, 8<<20, func(t *testing.T, segments []*Segment) {
		before := LiveMappings()
		a, b := arena(t, segments[0], 1), arena(t, segments[0], 1)
		if &a[0] != &b[0] || len(a) != 8<<20 || LiveMappings() != before+1 {
			t.Errorf("arenas of %d and %d bytes, %d new mappings", len(a), len(b), LiveMappings()-before)
		}
		for _, i := range []int{-1, 2} {
			if _, err := segments[0].Arena(i); err == nil {
				t.Errorf("there is an arena of member %d of 2", i)
			}
		}
	})
}

func TestAllocExhausted(t *testing.T) {
	eachForm(t, 2, 4<<20, func(t *testing.T, segments []*Segment) {
		s := segments[1]
		first, second := mustAlloc(t, s, largeGrain), mustAlloc(t, s, largeGrain)
		_, err := s.Alloc(1)
		if err == nil || !strings.Contains(err.Error(), "no room for 1 bytes in this rank's arena of 4194304 bytes, of which 4194304 are in use") {
			t.Errorf("alloc from a full arena: %v", err)
		}
		if mustAlloc(t, segments[0], largeGrain).Offset() != 0 {
			t.Error("members do not have arenas of their own")
		}
		if err := errors.Join(s.Free(first), s.Free(second)); err != nil {
			t.Error(err)
		}
		mustAlloc(t, s, 4<<20)
		for _, bytes := range []int64{4<<20 + 1, 1 << 62, -1, 0} {
			if _, err := segments[0].Alloc(bytes); err == nil {
				t.Errorf("alloc of %d bytes from an arena of %d", bytes, 4<<20)
			}
		}
	})
}

func TestAllocWithoutArena(t *testing.T) {
	eachForm(t, 2, 0, func(t *testing.T, segments []*Segment) {
		if _, err := segments[0].Alloc(1); err == nil {
			t.Error("allocated from an arena of nothing")
		}
		if _, err := segments[0].Arena(1); err != nil {
			t.Error(err)
		}
	})
}

func TestFreeZeroes(t *testing.T) {
	eachForm(t, 2, 8<<20, func(t *testing.T, segments []*Segment) {
		for _, size := range []int64{100, largeGrain} {
			b := mustAlloc(t, segments[0], size)
			other := arena(t, segments[1], 0)[b.Offset():][:size]
			fill(b.Bytes(), 9)
			if err := segments[0].Free(b); err != nil {
				t.Fatal(err)
			}
			again := mustAlloc(t, segments[0], size)
			if again.Offset() != b.Offset() {
				t.Fatalf("block at %d instead of %d", again.Offset(), b.Offset())
			}
			if !bytes.Equal(again.Bytes(), make([]byte, size)) || !bytes.Equal(other, make([]byte, size)) {
				t.Errorf("a new block of %d bytes is not zero", size)
			}
		}
	})
}

// segmentBytes returns how much memory the segment's memfd takes.
func segmentBytes(t *testing.T, s *Segment) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestFreeReleasesMemory(t *testing.T) {
	c := config(2)
	c.ArenaBytes = 1 << 38
	segments := joinAll(t, c)
	base := segmentBytes(t, segments[0])
	if base != c.Bytes {
		t.Errorf("a segment with a base of %d bytes takes %d: the arenas are not sparse, or the base is not populated", c.Bytes, base)
	}
	const size = 5 << 20 // rounded up to 6 MiB
	b := mustAlloc(t, segments[1], size)
	if grown := segmentBytes(t, segments[0]) - base; grown != 0 {
		t.Errorf("an untouched block takes %d bytes", grown)
	}
	fill(b.Bytes(), 1)
	fill(arena(t, segments[0], 1)[b.Offset():][:size], 2) // mapped here too
	if grown := segmentBytes(t, segments[0]) - base; grown < size || grown > 3*largeGrain {
		t.Errorf("a block of %d bytes takes %d", size, grown)
	}
	if err := segments[1].Free(b); err != nil {
		t.Fatal(err)
	}
	if left := segmentBytes(t, segments[0]) - base; left != 0 {
		t.Errorf("%d bytes are left after Free", left)
	}
}

func TestFreeFaults(t *testing.T) {
	eachForm(t, 2, 8<<20, func(t *testing.T, segments []*Segment) {
		b := mustAlloc(t, segments[0], 100)
		if err := segments[0].Free(b); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string]Block{"again": b, "never allocated": {offset: 12288}, "no block": {}} {
			if err := segments[0].Free(b); err == nil || !strings.Contains(err.Error(), "not allocated") {
				t.Errorf("free, %s: %v", name, err)
			}
		}
	})
}

func TestOwn(t *testing.T) {
	eachForm(t, 2, 8<<20, func(t *testing.T, segments []*Segment) {
		s := segments[0]
		var elsewhere [64]byte
		if _, ok := s.Own(unsafe.Pointer(&elsewhere), 1); ok {
			t.Error("owns the heap before anything is mapped")
		}
		a, b := mustAlloc(t, s, smallGrain), mustAlloc(t, s, smallGrain)
		foreign := mustAlloc(t, segments[1], smallGrain)
		view := arena(t, s, 1)[foreign.Offset():]
		at := func(b Block, off int) unsafe.Pointer { return unsafe.Pointer(&b.Bytes()[off]) }
		for _, c := range []struct {
			name  string
			p     unsafe.Pointer
			bytes int64
			want  int64 // -1: not owned
		}{
			{"whole", at(a, 0), smallGrain, a.Offset()},
			{"inner", at(b, 16), 32, b.Offset() + 16},
			{"last byte", at(b, smallGrain-1), 1, b.Offset() + smallGrain - 1},
			{"nothing", at(a, 0), 0, a.Offset()},
			{"over two blocks", at(a, 0), 2 * smallGrain, -1},
			{"past the end", at(b, 1), smallGrain, -1},
			{"huge", at(a, 1), 1<<63 - 1, -1},
			{"negative", at(a, 0), -1, -1},
			{"heap", unsafe.Pointer(&elsewhere), 1, -1},
			{"base", unsafe.Pointer(&s.Base()[0]), 1, -1},
			{"another member's", unsafe.Pointer(&view[0]), 1, -1},
			{"unallocated", unsafe.Pointer(&arena(t, s, 0)[2*smallGrain]), 1, -1},
			{"nil", nil, 0, -1},
		} {
			off, ok := s.Own(c.p, c.bytes)
			if ok != (c.want >= 0) || ok && off != c.want {
				t.Errorf("%s: %d, %v, want %d", c.name, off, ok, c.want)
			}
		}
		if n := testing.AllocsPerRun(100, func() { s.Own(at(a, 0), 64) }); n != 0 {
			t.Errorf("Own makes %v allocations", n)
		}
		p := at(a, 0)
		if err := s.Free(a); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Own(p, 1); ok {
			t.Error("owns what is freed")
		}
	})
}

func TestArenaConcurrently(t *testing.T) {
	eachForm(t, 2, 64<<20, func(t *testing.T, segments []*Segment) {
		var group sync.WaitGroup
		for g := range 8 {
			group.Go(func() {
				s := segments[g%2]
				for k := range 50 {
					b, err := s.Alloc(int64(1 + k*g*3000))
					if err != nil {
						t.Error(err)
						return
					}
					b.Bytes()[0] = byte(g)
					if _, ok := s.Own(unsafe.Pointer(&b.Bytes()[0]), 1); !ok || b.Bytes()[0] != byte(g) {
						t.Error("a block is not its owner's alone")
					}
					if _, err := s.Arena(1 - g%2); err != nil {
						t.Error(err)
					}
					if err := s.Free(b); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
	})
}

func TestUseAfterClose(t *testing.T) {
	eachForm(t, 2, 8<<20, func(t *testing.T, segments []*Segment) {
		s, other := segments[0], segments[1]
		b := mustAlloc(t, s, 100)
		p := unsafe.Pointer(&b.Bytes()[0])
		kept := arena(t, other, 0)[b.Offset():]
		b.Bytes()[0] = 7
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Alloc(1); !errors.Is(err, ErrClosed) {
			t.Errorf("Alloc: %v", err)
		}
		if _, err := s.Arena(1); !errors.Is(err, ErrClosed) {
			t.Errorf("Arena: %v", err)
		}
		if err := s.Free(b); !errors.Is(err, ErrClosed) {
			t.Errorf("Free: %v", err)
		}
		if _, ok := s.Own(p, 1); ok {
			t.Error("owns memory after Close")
		}
		if kept[0] != 7 {
			t.Error("the other member lost the memory of a member that closed")
		}
	})
}
