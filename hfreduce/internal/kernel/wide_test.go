// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"math"
	"testing"
	"unsafe"
)

// The scalar conversions are held against the reference (convert_test.go). Here every backend is held against the scalar
// ones, over all that they can be given: as the reduction of a single source that is narrow and whose output is wide, or the
// other way round.

// eachConversion runs a test body for every backend and narrow type.
func eachConversion(t *testing.T, body func(t *testing.T, b Backend, c conversion)) {
	eachBackend(t, func(t *testing.T, b Backend) {
		for _, c := range conversions {
			t.Run(c.t.String(), func(t *testing.T) { body(t, b, c) })
		}
	})
}

func TestReduceWidensAllCodes(t *testing.T) {
	eachConversion(t, func(t *testing.T, b Backend, c conversion) {
		codes := allCodes(c.t)
		wide := make([]byte, len(codes)/c.t.Size()*4)
		Spec{DType: c.t, Wide: true}.ReduceOn(b, wide, nil, [][]byte{codes}, nil)
		for code, v := range view[float32](wide) {
			want := math.Float32bits(c.widen(uint32(code)))
			if got := math.Float32bits(v); !sameElement(Float32, uint64(got), uint64(want)) {
				t.Fatalf("%#x becomes %v, want %v", code, v, math.Float32frombits(want))
			}
		}
		back := make([]byte, len(codes))
		Spec{DType: c.t, WideSources: 1}.ReduceOn(b, back, nil, [][]byte{wide}, nil)
		if i := differs(c.t, back, codes); i >= 0 {
			t.Errorf("%#x comes back as %#x", i, element(c.t, back, i))
		}
	})
}

// allCodes returns one element for each value of a type, in the order of their codes.
func allCodes(t DType) []byte {
	all := make([]byte, t.Size()<<(8*t.Size()))
	for code := range 1 << (8 * t.Size()) {
		if t.Size() == 1 {
			all[code] = byte(code)
		} else {
			view[uint16](all)[code] = uint16(code)
		}
	}
	return all
}

// differs returns the first element that x and y do not have in common, -1 if there is none.
func differs(t DType, x, y []byte) int {
	if string(x) == string(y) {
		return -1
	}
	for i := range len(x) / t.Size() {
		if !sameElement(t, element(t, x, i), element(t, y, i)) {
			return i
		}
	}
	return -1
}

// bytesOf returns the memory of v.
func bytesOf(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

// narrowInto rounds v one by one.
func (c conversion) narrowInto(dst []byte, v []float32) {
	if c.t.Size() == 1 {
		for i := range v {
			dst[i] = byte(c.narrow(v[i]))
		}
		return
	}
	d := view[uint16](dst)[:len(v)]
	for i := range v {
		d[i] = uint16(c.narrow(v[i]))
	}
}

// checkBlock has a backend round v, and the sum of two that is v.
func (c conversion) checkBlock(b Backend, v []float32) error {
	want, got := make([]byte, len(v)*c.t.Size()), make([]byte, len(v)*c.t.Size())
	c.narrowInto(want, v)
	Spec{DType: c.t, WideSources: 1}.ReduceOn(b, got, nil, [][]byte{bytesOf(v)}, nil)
	if i := differs(c.t, got, want); i >= 0 {
		return fmt.Errorf("%v (%#08x) becomes %#x, want %#x", v[i], math.Float32bits(v[i]), element(c.t, got, i), element(c.t, want, i))
	}
	high, low := make([]float32, len(v)), make([]float32, len(v))
	for i := range v {
		high[i] = math.Float32frombits(math.Float32bits(v[i]) &^ (1<<12 - 1))
		low[i] = v[i] - high[i] // NaN for infinity
	}
	sum := make([]float32, len(v))
	for i := range v {
		sum[i] = high[i] + low[i]
	}
	c.narrowInto(want, sum)
	Spec{DType: c.t, WideSources: 2}.ReduceOn(b, got, nil, [][]byte{bytesOf(high), bytesOf(low)}, nil)
	if i := differs(c.t, got, want); i >= 0 {
		return fmt.Errorf("%v + %v becomes %#x, want %#x", high[i], low[i], element(c.t, got, i), element(c.t, want, i))
	}
	return nil
}

func TestReduceNarrowsBoundaries(t *testing.T) {
	eachConversion(t, func(t *testing.T, b Backend, c conversion) {
		if err := c.checkBlock(b, boundaries(t, c.t)); err != nil {
			t.Error(err)
		}
	})
}

// TestReduceNarrowsSample strides through all float32; the tests with the tag exhaustive leave none out.
func TestReduceNarrowsSample(t *testing.T) {
	var all []float32
	for v := uint64(0); v < 1<<32; v += 10007 {
		all = append(all, math.Float32frombits(uint32(v)))
	}
	eachConversion(t, func(t *testing.T, b Backend, c conversion) {
		if err := c.checkBlock(b, all); err != nil {
			t.Error(err)
		}
	})
}
