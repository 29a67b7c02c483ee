// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"testing"

	"pgregory.net/rapid"
)

const (
	modelPages = 5 * largeGrain / smallGrain
	modelArena = modelPages * smallGrain
)

// model is an allocator and, beside it, a plain map of the arena's pages.
type model struct {
	allocator
	owner  [modelPages]int // number of the block that has the page, 0 if none
	blocks map[int]span
	next   int
}

func (m *model) own(s span, number int) {
	for p := s.off / smallGrain; p < (s.off+s.len)/smallGrain; p++ {
		m.owner[p] = number
	}
}

func (m *model) isFree(at, pages int) bool {
	for _, o := range m.owner[at : at+pages] {
		if o != 0 {
			return false
		}
	}
	return true
}

// fits reports whether a block has room anywhere.
func (m *model) fits(bytes int64) bool {
	g := grain(bytes)
	need := int(roundUp(bytes, g) / smallGrain)
	for at := 0; at+need <= modelPages; at += int(g / smallGrain) {
		if m.isFree(at, need) {
			return true
		}
	}
	return false
}

func (m *model) allocate(t *rapid.T) {
	bytes := rapid.OneOf(rapid.Int64Range(1, 5*smallGrain), rapid.Int64Range(1, modelArena+1), rapid.Just(int64(largeGrain)),
		rapid.Int64Range(largeGrain-1, largeGrain+1)).Draw(t, "bytes")
	possible := m.fits(bytes)
	off, ok := m.alloc(bytes, modelArena)
	if ok != possible {
		t.Fatalf("alloc of %d bytes: %v, room: %v", bytes, ok, possible)
	}
	if !ok {
		return
	}
	s := span{off, roundUp(bytes, grain(bytes))}
	if off < 0 || off%grain(bytes) != 0 || off+s.len > modelArena || !m.isFree(int(off/smallGrain), int(s.len/smallGrain)) {
		t.Fatalf("block of %d bytes at %d is misaligned, outside, or in another one", bytes, off)
	}
	m.next++
	m.own(s, m.next)
	m.blocks[m.next] = s
}

func (m *model) release(t *rapid.T) {
	if m.next == 0 {
		return
	}
	number := rapid.IntRange(1, m.next).Draw(t, "block")
	s, ok := m.blocks[number]
	if !ok {
		return
	}
	if length, ok := m.free(s.off); !ok || length != s.len {
		t.Fatalf("free at %d: %d, %v, want %d", s.off, length, ok, s.len)
	}
	if _, ok := m.free(s.off); ok {
		t.Fatalf("freed at %d twice", s.off)
	}
	m.own(s, 0)
	delete(m.blocks, number)
}

func (m *model) check(t *rapid.T) {
	used := int64(0)
	for _, s := range m.blocks {
		used += s.len
	}
	if m.used != used || len(m.live) != len(m.blocks) {
		t.Fatalf("%d bytes in %d blocks are in use, the allocator says %d in %d", used, len(m.blocks), m.used, len(m.live))
	}
	off, bytes := rapid.Int64Range(0, modelArena-1).Draw(t, "off"), rapid.Int64Range(1, smallGrain).Draw(t, "bytes")
	first, last := off/smallGrain, (off+bytes-1)/smallGrain
	want := last < modelPages && m.owner[first] != 0 && m.owner[first] == m.owner[min(last, modelPages-1)]
	if got := m.inside(off, bytes); got != want {
		t.Fatalf("[%d, +%d) inside a block: %v, want %v", off, bytes, got, want)
	}
}

func TestAllocatorAgainstPages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{blocks: map[int]span{}}
		t.Repeat(map[string]func(*rapid.T){"alloc": m.allocate, "free": m.release, "": m.check})
	})
}
