// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"fmt"
	"math"
	"unsafe"
)

const (
	none = -2 // no second output
	own  = -1 // an output with memory of its own
)

// reduction is one call of Reduce to be checked: its data, and where every buffer stands.
type reduction struct {
	spec      Spec
	count     int      // elements
	srcs      [][]byte // contents
	scales    []float64
	dst, dst2 int   // own, none or the index of the source it shares its memory with
	offsets   []int // bytes past the start of a cache line: of the sources, then of dst and dst2
}

// guarded is a buffer between guard bytes.
type guarded struct{ before, buf, after []byte }

const (
	guardBytes, guardByte = 64, 0xa5
	unwritten             = 0xee // what outputs hold before
	lineBytes             = 64
)

func newGuarded(content []byte, offset int) guarded {
	all := bytes.Repeat([]byte{guardByte}, guardBytes+lineBytes+offset+len(content)+guardBytes)
	start := guardBytes + offset + int(-uintptr(unsafe.Pointer(unsafe.SliceData(all)))%lineBytes)
	g := guarded{all[:start], all[start:][:len(content):len(content)], all[start+len(content):]}
	copy(g.buf, content)
	return g
}

func (g guarded) intact() bool {
	guard := []byte{guardByte}
	return bytes.Count(g.before, guard) == len(g.before) && bytes.Count(g.after, guard) == len(g.after)
}

// check runs r on a backend and compares everything it may and may not touch.
func (r reduction) check(b Backend) error {
	n := len(r.srcs)
	var all []guarded
	var srcs [][]byte
	for j, src := range r.srcs {
		all = append(all, newGuarded(src, r.offsets[j]))
		srcs = append(srcs, all[j].buf)
	}
	output := func(alias, offset int) []byte {
		switch alias {
		case none:
			return nil
		case own:
			before := bytes.Repeat([]byte{unwritten}, r.count*outputType(r.spec).Size())
			all = append(all, newGuarded(before, offset))
			return all[len(all)-1].buf
		}
		return srcs[alias]
	}
	dst, dst2 := output(r.dst, r.offsets[n]), output(r.dst2, r.offsets[n+1])
	scales := append([]float64(nil), r.scales...)

	r.spec.ReduceOn(b, dst, dst2, srcs, r.scales)

	for k, g := range all {
		if !g.intact() {
			return fmt.Errorf("bytes around buffer %d changed", k)
		}
	}
	for j := range srcs {
		if j != r.dst && j != r.dst2 && !bytes.Equal(srcs[j], r.srcs[j]) {
			return fmt.Errorf("source %d changed", j)
		}
	}
	for j := range scales {
		if math.Float64bits(scales[j]) != math.Float64bits(r.scales[j]) {
			return fmt.Errorf("scale %d changed", j)
		}
	}
	return r.compare(dst, dst2)
}

// compare holds the outputs against the reference.
func (r reduction) compare(dst, dst2 []byte) error {
	n, out := len(r.srcs), outputType(r.spec)
	bits := make([]uint64, n)
	for i := range r.count {
		for j, src := range r.srcs {
			bits[j] = element(sourceType(r.spec, j, n), src, i)
		}
		want := refElement(r.spec, bits, r.scales)
		if got := element(out, dst, i); !sameElement(out, got, want) {
			return fmt.Errorf("element %d of %#x scaled by %v is %#x, want %#x", i, bits, r.scales, got, want)
		}
	}
	if copies(r.spec, n, r.scales) && !bytes.Equal(dst, r.srcs[0]) {
		return fmt.Errorf("the copy of the only source changed the bits of a NaN")
	}
	if r.dst2 != none && !bytes.Equal(dst, dst2) {
		return fmt.Errorf("second output differs from the first")
	}
	return nil
}

// srcSize returns the bytes of an element of source j of n.
func srcSize(s Spec, j, n int) int {
	if j >= n-s.WideSources {
		return Float32.Size()
	}
	return s.DType.Size()
}
