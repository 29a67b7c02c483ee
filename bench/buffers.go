// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"fmt"
	"os"
	"unsafe"

	"github.com/hfreduce/hfreduce/cuda"
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
	gpu    *gpu     // nil if collectives work on bytes; else they work on the GPU's memory, whose image bytes is
	device cuda.Ptr // of the GPU's memory
}

// areaBytes returns the size of an area with room for payload bytes at any offset up to Unalign elements.
func areaBytes(payload int64, unalign int) int64 { return payload + 2*guardBytes + int64(unalign)*8 }

// newArea returns an area of the rank's.
func (r *rank) newArea() (area, error) {
	size := areaBytes(r.max, r.cfg.Unalign)
	if r.gpu != nil {
		p, err := r.gpu.Malloc(size)
		return area{bytes: alignedBytes(size), gpu: r.gpu, device: p}, err
	}
	if !r.cfg.Registered {
		return area{bytes: touch(alignedBytes(size))}, nil
	}
	m, err := r.comm.Alloc(size)
	if err != nil {
		return area{}, fmt.Errorf("bench: buffer of %d bytes: %w", size, err)
	}
	return area{memory: m, bytes: touch(m.Bytes())}, nil
}

// touch writes to every page of new memory. Calls walk through all of it, also where neither the warm-up nor the pattern was: what
// is read there for the first time would all be one page of zeros, from the cache, and what is written would be mapped meanwhile.
func touch(b []byte) []byte {
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 0
	}
	return b
}

// alignedBytes returns heap memory that begins at a multiple of alignBytes.
func alignedBytes(size int64) []byte {
	b := make([]byte, size+alignBytes)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % alignBytes
	return b[skip : int64(skip)+size]
}

// free gives the memory back; what lies on the heap goes by itself.
func (a *area) free() error {
	switch {
	case a.gpu != nil:
		return a.gpu.Free(a.device)
	case a.memory != nil:
		return a.memory.Free()
	}
	return nil
}

// buffer names part of an area for a collective.
func (a *area) buffer(at, length int64, d hfreduce.DataType) hfreduce.Buffer {
	if a.gpu != nil {
		return hfreduce.Device(a.device+cuda.Ptr(at), int(length)/d.Size(), d, a.gpu.stream)
	}
	return hfreduce.Bytes(a.bytes[at:at+length], d)
}

// window is the part of an area that one call uses.
type window struct {
	all      []byte // of the area
	from, to int64  // the payload's place in it
	area     *area
}

// window returns the payload of the given length, moved by skip bytes from where it naturally lies.
func (a *area) window(skip, length int64) window {
	return window{a.bytes, guardBytes + skip, guardBytes + skip + length, a}
}

// store brings what was written here to where collectives work, guard bytes included; load does the opposite.
func (w window) store() error { return w.area.copy(w.from-guardBytes, w.to+guardBytes, cuda.ToDevice) }
func (w window) load() error  { return w.area.copy(w.from-guardBytes, w.to+guardBytes, cuda.ToHost) }

// copy copies part of an area to the GPU's memory or from it.
func (a *area) copy(from, to int64, k cuda.Kind) error {
	if a.gpu == nil {
		return nil
	}
	return a.gpu.copy(a.bytes[from:to], a.device+cuda.Ptr(from), k)
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
