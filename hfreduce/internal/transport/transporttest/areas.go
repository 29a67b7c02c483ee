// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

const (
	guardBytes = 64
	guardByte  = 0xA5
)

// areas are landing areas with guard bytes around each.
type areas struct {
	landings [][]byte
	whole    [][]byte
}

func newAreas(t testing.TB, impl Implementation, lengths []int) areas {
	a := areas{}
	for _, n := range lengths {
		whole := impl.memory(t, n+2*guardBytes)
		for i := range whole {
			whole[i] = guardByte
		}
		a.whole = append(a.whole, whole)
		a.landings = append(a.landings, whole[guardBytes:guardBytes+n:guardBytes+n])
	}
	return a
}

// check compares what landed in an area with the pattern of a seed, and that nothing landed around it.
func (a *areas) check(t testing.TB, landing uint32, n int, seed uint64) {
	t.Helper()
	if at := mismatch(a.landings[landing][:n], seed); at >= 0 {
		t.Errorf("landing %d, seed %d: byte %d of %d is wrong", landing, seed, at, n)
	}
	whole := a.whole[landing]
	for i := range guardBytes {
		if whole[i] != guardByte || whole[len(whole)-1-i] != guardByte {
			t.Errorf("landing %d: bytes around the area were written", landing)
			return
		}
	}
}

// untouched checks that nothing landed in an area from byte from on.
func (a *areas) untouched(t testing.TB, landing uint32, from int) {
	t.Helper()
	for i, x := range a.landings[landing][from:] {
		if x != guardByte {
			t.Errorf("landing %d: byte %d was written", landing, from+i)
			return
		}
	}
}

// pattern returns n bytes that follow from a seed.
func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	fill(b, seed)
	return b
}

// fill repeats random bytes with a period that is no multiple of any buffer's or page's size, so that bytes at a wrong
// place are noticed.
func fill(b []byte, seed uint64) {
	const period = 16381
	n := min(len(b), period)
	fillRandom(b[:n], seed)
	for n < len(b) {
		n += copy(b[n:], b[:n]) // n is a multiple of the period here
	}
}

func fillRandom(b []byte, seed uint64) {
	r := rand.NewPCG(seed, 1)
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, r.Uint64())
	}
	var tail [8]byte
	binary.LittleEndian.PutUint64(tail[:], r.Uint64())
	copy(b, tail[:])
}

// mismatch returns the index of the first byte that does not follow from the seed, -1 if all do.
func mismatch(b []byte, seed uint64) int {
	want := pattern(len(b), seed)
	if bytes.Equal(b, want) {
		return -1
	}
	for i := range b {
		if b[i] != want[i] {
			return i
		}
	}
	return -1
}
