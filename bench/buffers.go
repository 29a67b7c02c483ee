// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/hfreduce/hfreduce/hfreduce"
)

const (
	guardBytes = 64   // before and behind the area that a collective may write
	guardByte  = 0xa5 // what they hold
	alignBytes = 64   // natural alignment of buffers
	maxUnalign = 4096 // elements
)

// area is the memory that one kind of buffer of a rank is cut from: guard bytes, room for the largest size, guard bytes.
type area struct {
	memory *hfreduce.Memory // nil for the Go heap
	bytes  []byte
}

// newArea returns room for payload bytes at any offset up to Unalign elements.
func newArea(comm *hfreduce.Comm, payload int64, registered bool, unalign int) (area, error) {
	size := payload + 2*guardBytes + int64(unalign)*8
	if !registered {
		return area{bytes: alignedBytes(size)}, nil
	}
	m, err := comm.Alloc(size)
	if err != nil {
		return area{}, fmt.Errorf("bench: buffer of %d bytes: %w", size, err)
	}
	return area{memory: m, bytes: m.Bytes()}, nil
}

// alignedBytes returns heap memory that begins at a multiple of alignBytes.
func alignedBytes(size int64) []byte {
	b := make([]byte, size+alignBytes)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % alignBytes
	return b[skip : int64(skip)+size]
}

// free gives the memory back; what lies on the heap goes by itself.
func (a *area) free() error {
	if a.memory == nil {
		return nil
	}
	return a.memory.Free()
}

// window is the part of an area that one call uses.
type window struct {
	all      []byte // of the area
	from, to int64  // the payload's place in it
}

// window returns the payload of the given length, moved by skip bytes from where it naturally lies.
func (a *area) window(skip, length int64) window {
	return window{a.bytes, guardBytes + skip, guardBytes + skip + length}
}

func (w window) payload() []byte { return w.all[w.from:w.to] }

// guard fills the bytes around the payload.
func (w window) guard() {
	for _, g := range w.guards() {
		for i := range g {
			g[i] = guardByte
		}
	}
}

// damaged reports whether a byte around the payload has changed since guard.
func (w window) damaged() bool {
	for _, g := range w.guards() {
		if bytes.Count(g, []byte{guardByte}) != len(g) {
			return true
		}
	}
	return false
}

func (w window) guards() [2][]byte {
	return [2][]byte{w.all[w.from-guardBytes : w.from], w.all[w.to : w.to+guardBytes]}
}
