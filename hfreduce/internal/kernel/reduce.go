// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"unsafe"
)

// Reduce writes dst[i] = round(op over j of (scales[j] * srcs[j][i]) / s.Divisor) for every element i, and the same to dst2
// unless that is nil.
//
// All slices have the same number of elements; zero is fine, and so is any alignment. There is at least one source. dst and
// dst2 may each be the very memory of any source whose elements have the same size, otherwise nothing that is written may
// overlap anything else. nil scales mean no scaling; otherwise there is one for each source, converted to float32 or float64
// for the floating-point types (float32 for those narrower), and for integers to int64 (truncated; out of range, the nearest
// int64; NaN, 0), the product wrapping. A single source without scale and divisor is copied bit by bit if the output has its
// type.
//
// Reduce allocates nothing and keeps no slice. It is the caller's duty to pass what is described here, and a Spec that
// passes Validate: anything else would write through memory that is not meant, so Reduce panics before it writes a byte
// (overlap alone is not detected).
func (s Spec) Reduce(dst, dst2 []byte, srcs [][]byte, scales []float64) {
	s.reduceOn(selected, len(dst) <= tinyBytes && dst2 == nil && scales == nil, dst, dst2, srcs, scales)
}

// ReduceOn is Reduce on a backend of choice, which must be available.
func (s Spec) ReduceOn(b Backend, dst, dst2 []byte, srcs [][]byte, scales []float64) {
	s.reduceOn(b, false, dst, dst2, srcs, scales)
}

// reduceOn takes the short way where there is one, if it may.
func (s *Spec) reduceOn(b Backend, tiny bool, dst, dst2 []byte, srcs [][]byte, scales []float64) {
	if err := s.check(dst, dst2, srcs, scales); err != nil {
		panic(err)
	}
	if len(dst) == 0 {
		return
	}
	if len(srcs) == 1 && scales == nil && s.Divisor <= 1 && s.Wide == (s.WideSources == 1) {
		b.copySource(dst, srcs[0], s.StreamDst)
		if dst2 != nil {
			b.copySource(dst2, srcs[0], s.StreamDst2)
		}
		return
	}
	if tiny && s.reduceTiny(dst, srcs) {
		return
	}
	b.reduce(s, dst, dst2, srcs, scales)
}

// copySource copies src to dst, which may be the same memory.
func (b Backend) copySource(dst, src []byte, stream bool) {
	switch {
	case unsafe.SliceData(dst) == unsafe.SliceData(src):
	case stream && b.streamSource(dst, src):
	default:
		copy(dst, src)
	}
}

// Copy copies src to dst, which has the same length and does not overlap it, with non-temporal stores where the selected
// backend has them (Spec.StreamDst).
func Copy(dst, src []byte) { selected.copySource(dst, src[:len(dst)], true) }

// check reports a breach of what Reduce demands of its caller.
func (s *Spec) check(dst, dst2 []byte, srcs [][]byte, scales []float64) error {
	if err := s.validate(); err != nil {
		return err
	}
	switch {
	case len(srcs) == 0:
		return fmt.Errorf("kernel: no source")
	case s.WideSources > len(srcs):
		return fmt.Errorf("kernel: %d wide sources among %d", s.WideSources, len(srcs))
	case len(dst)&(s.outSize()-1) != 0:
		return fmt.Errorf("kernel: %d bytes are no whole number of elements of %d bytes (%s)", len(dst), s.outSize(), s.DType)
	case dst2 != nil && len(dst2) != len(dst):
		return fmt.Errorf("kernel: second output of %d bytes, first of %d", len(dst2), len(dst))
	case scales != nil && len(scales) != len(srcs):
		return fmt.Errorf("kernel: %d scales for %d sources", len(scales), len(srcs))
	}
	count := len(dst) >> s.outShift()
	narrow, wide := count<<dtypes[s.DType].shift, count<<dtypes[Float32].shift
	for j := range srcs {
		want := narrow
		if j >= len(srcs)-s.WideSources {
			want = wide
		}
		if len(srcs[j]) != want {
			return fmt.Errorf("kernel: source %d of %d bytes, want %d for %d elements", j, len(srcs[j]), want, count)
		}
	}
	return nil
}
