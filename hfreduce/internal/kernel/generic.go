// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"math"
	"unsafe"
)

// The generic backend works through the buffers in blocks, so that what lies between the passes over a block stays in the
// first-level cache:
//
//  1. up to groupSources sources are folded in registers, straight into the output (generic.go, generic_fold.go);
//  2. more of them, or scaled ones, through an accumulator block on the stack (generic.go);
//  3. floating-point types narrower than 32 bits through an accumulator block of float32 (generic_narrow.go).
//
// An output element is written after its last source has been read, which makes every form of in place safe.

const (
	blockElems   = 512  // elements of an accumulator block
	blockBytes   = 4096 // bytes of a block that needs no accumulator
	groupSources = 4    // sources folded in one loop
)

// number lists the types that accumulate in themselves.
type number interface {
	int8 | uint8 | int32 | uint32 | int64 | uint64 | float32 | float64
}

// view returns the elements in b, whatever its alignment: both amd64 and arm64 load and store any address.
func view[T number | uint16](b []byte) []T {
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(zero)))
}

func reduceGeneric(s Spec, dst, dst2 []byte, srcs [][]byte, scales []float64) {
	switch s.DType {
	case Int8:
		reduceNumber[int8](s, dst, dst2, srcs, scales)
	case Uint8:
		reduceNumber[uint8](s, dst, dst2, srcs, scales)
	case Int32:
		reduceNumber[int32](s, dst, dst2, srcs, scales)
	case Uint32:
		reduceNumber[uint32](s, dst, dst2, srcs, scales)
	case Int64:
		reduceNumber[int64](s, dst, dst2, srcs, scales)
	case Uint64:
		reduceNumber[uint64](s, dst, dst2, srcs, scales)
	case Float32:
		reduceNumber[float32](s, dst, dst2, srcs, scales)
	case Float64:
		reduceNumber[float64](s, dst, dst2, srcs, scales)
	case Float16, BFloat16, Float8E4M3, Float8E5M2:
		reduceNarrow(s, dst, dst2, srcs, scales)
	}
}

// reduceNumber chooses the way by what it costs: each has its own stack frame, for clearing an accumulator block takes
// longer than a short reduction.
func reduceNumber[T number](s Spec, dst, dst2 []byte, srcs [][]byte, scales []float64) {
	switch {
	case scales != nil:
		reduceScaled[T](s, dst, dst2, srcs, scales)
	case len(srcs) <= groupSources:
		reduceFew[T](s, dst, dst2, srcs)
	default:
		reduceMany[T](s, dst, dst2, srcs)
	}
}

func reduceFew[T number](s Spec, dst, dst2 []byte, srcs [][]byte) {
	var x [groupSources][]T
	for lo := 0; lo < len(dst); lo += blockBytes {
		hi := min(lo+blockBytes, len(dst))
		n := load(&x, 0, srcs, lo, hi)
		d := view[T](dst[lo:hi])
		fold(s.Op, d, &x, n)
		finish(s, d, dst2, lo, hi)
	}
}

func reduceMany[T number](s Spec, dst, dst2 []byte, srcs [][]byte) {
	var acc [blockElems]T
	var x [groupSources][]T
	step := blockElems * s.DType.Size()
	for lo := 0; lo < len(dst); lo += step {
		hi := min(lo+step, len(dst))
		d := view[T](dst[lo:hi])
		a := acc[:len(d)]
		n := load(&x, 0, srcs, lo, hi)
		rest := srcs[n:]
		for len(rest) > 0 {
			fold(s.Op, a, &x, n)
			x[0] = a
			n = load(&x, 1, rest, lo, hi)
			rest = rest[n-1:]
		}
		fold(s.Op, d, &x, n)
		finish(s, d, dst2, lo, hi)
	}
}

func reduceScaled[T number](s Spec, dst, dst2 []byte, srcs [][]byte, scales []float64) {
	var acc, scaled [blockElems]T
	step := blockElems * s.DType.Size()
	for lo := 0; lo < len(dst); lo += step {
		hi := min(lo+step, len(dst))
		d := view[T](dst[lo:hi])
		a, x := acc[:len(d)], scaled[:len(d)]
		scale(s, a, view[T](srcs[0][lo:hi]), scales[0])
		for j := 1; j < len(srcs); j++ {
			scale(s, x, view[T](srcs[j][lo:hi]), scales[j])
			fold2(s.Op, a, a, x)
		}
		copy(d, a)
		finish(s, d, dst2, lo, hi)
	}
}

// load fills x from index at with bytes [lo, hi) of as many of srcs as fit and returns how many of x are in use.
func load[T number](x *[groupSources][]T, at int, srcs [][]byte, lo, hi int) int {
	for _, src := range srcs[:min(len(srcs), groupSources-at)] {
		x[at] = view[T](src[lo:hi])
		at++
	}
	return at
}

// finish divides the block d of the output, bytes [lo, hi), and hands it to the second output.
func finish[T number](s Spec, d []T, dst2 []byte, lo, hi int) {
	divide(s, d)
	if dst2 != nil {
		copy(view[T](dst2[lo:hi]), d)
	}
}

func divide[T number](s Spec, d []T) {
	switch {
	case s.Divisor <= 1:
	case s.DType.float():
		q := T(s.Divisor)
		for i := range d {
			d[i] /= q
		}
	case s.DType.Size() == 1 && len(d) >= 4*len(quotients{}):
		divideTable(s.DType, d, s.Divisor)
	default:
		by := newDivider(uint64(s.Divisor))
		unsigned := s.DType == Uint64
		for i := range d {
			d[i] = T(by.divide(int64(d[i]), unsigned))
		}
	}
}

func scale[T number](s Spec, d, x []T, by float64) {
	k := T(integerScale(by))
	if s.DType.float() {
		k = T(by)
	}
	x = x[:len(d)]
	for i := range d {
		d[i] = x[i] * k
	}
}

// integerScale converts a scale for integers. Go leaves the conversion of what does not fit to the machine; here it is the
// same everywhere.
func integerScale(f float64) int64 {
	switch {
	case f != f:
		return 0
	case f >= 0x1p63:
		return math.MaxInt64
	case f <= -0x1p63:
		return math.MinInt64
	}
	return int64(f)
}
