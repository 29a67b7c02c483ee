// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"cmp"
	"slices"
)

const (
	smallGrain = 4096
	largeGrain = 2 << 20 // a huge page
)

// span is a run of an arena.
type span struct{ off, len int64 }

// allocator gives out spans of one arena, first fit. The zero value has nothing allocated.
type allocator struct {
	live []span // by offset
	used int64
}

// grain returns the alignment and the rounding of a block.
func grain(bytes int64) int64 {
	if bytes >= largeGrain {
		return largeGrain
	}
	return smallGrain
}

func roundUp(x, to int64) int64 { return (x + to - 1) / to * to }

// alloc returns the offset of a free span of an arena of so many bytes.
func (a *allocator) alloc(bytes, arena int64) (off int64, ok bool) {
	g := grain(bytes)
	bytes = roundUp(bytes, g)
	at := 0
	for ; at < len(a.live) && roundUp(off, g)+bytes > a.live[at].off; at++ {
		off = a.live[at].off + a.live[at].len
	}
	if off = roundUp(off, g); bytes > arena || off > arena-bytes {
		return 0, false
	}
	a.live = slices.Insert(a.live, at, span{off, bytes})
	a.used += bytes
	return off, true
}

// free returns the length of the span at off and forgets it.
func (a *allocator) free(off int64) (length int64, ok bool) {
	i, ok := slices.BinarySearchFunc(a.live, off, func(s span, off int64) int { return cmp.Compare(s.off, off) })
	if !ok {
		return 0, false
	}
	length = a.live[i].len
	a.live = slices.Delete(a.live, i, i+1)
	a.used -= length
	return length, true
}

// inside reports whether [off, off+bytes) is within one live span.
func (a *allocator) inside(off, bytes int64) bool {
	lo, hi := 0, len(a.live) // the last span that starts at or before off is hi-1
	for lo < hi {
		mid := (lo + hi) / 2
		if a.live[mid].off <= off {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo > 0 && bytes >= 0 && bytes <= a.live[lo-1].off+a.live[lo-1].len-off
}
