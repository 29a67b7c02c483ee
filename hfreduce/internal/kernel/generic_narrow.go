// SPDX-License-Identifier: Apache-2.0

package kernel

// reduceNarrow reduces the types of 8 and 16 bits: float32 accumulators over all sources, one rounding at the end.
func reduceNarrow(s Spec, dst, dst2 []byte, srcs [][]byte, scales []float64) {
	if s.Op == Sum && scales == nil {
		sumNarrow(s, dst, dst2, srcs)
		return
	}
	var acc, widened [blockElems]float32
	count := len(dst) / s.outSize()
	for lo := 0; lo < count; lo += blockElems {
		hi := min(lo+blockElems, count)
		a, buf := acc[:hi-lo], widened[:hi-lo]
		x := widen(s, a, srcs, 0, lo)
		if scales != nil {
			scale(s, a, x, scales[0])
		} else {
			copy(a, x)
		}
		for j := 1; j < len(srcs); j++ {
			x = widen(s, buf, srcs, j, lo)
			if scales != nil {
				scale(s, buf, x, scales[j])
				x = buf
			}
			fold2(s.Op, a, a, x)
		}
		finishNarrow(s, a, dst, dst2, lo, hi)
	}
}

// widen returns len(buf) elements of source j, from element lo on, as float32: where they stand if they are, otherwise in buf.
func widen(s Spec, buf []float32, srcs [][]byte, j, lo int) []float32 {
	if j >= len(srcs)-s.WideSources {
		return view[float32](srcs[j])[lo:][:len(buf)]
	}
	size := s.DType.Size()
	decode(s.DType, buf, srcs[j][lo*size:][:len(buf)*size])
	return buf
}

// sumNarrow is reduceNarrow for what nearly every call is, a plain sum: it widens and adds in one loop, two sources at a time.
func sumNarrow(s Spec, dst, dst2 []byte, srcs [][]byte) {
	var acc [blockElems]float32
	count, size := len(dst)/s.outSize(), s.DType.Size()
	narrow, wide := srcs[:len(srcs)-s.WideSources], srcs[len(srcs)-s.WideSources:]
	for lo := 0; lo < count; lo += blockElems {
		hi := min(lo+blockElems, count)
		a := acc[:hi-lo]
		if len(narrow) > 0 {
			addNarrow(s.DType, a, narrow, lo*size, hi*size)
			addWide(a, true, wide, lo, hi)
		} else {
			addWide(a, false, wide, lo, hi)
		}
		finishNarrow(s, a, dst, dst2, lo, hi)
	}
}

// addNarrow writes the sum of bytes [lo, hi) of srcs, of which there is one at least, to a.
func addNarrow(t DType, a []float32, srcs [][]byte, lo, hi int) {
	j := 1
	if len(srcs)%2 == 0 {
		decodeSum(t, a, srcs[0][lo:hi], srcs[1][lo:hi])
		j = 2
	} else {
		decode(t, a, srcs[0][lo:hi])
	}
	for ; j+1 < len(srcs); j += 2 {
		decodeAdd(t, a, srcs[j][lo:hi], srcs[j+1][lo:hi])
	}
}

// addWide adds elements [lo, hi) of srcs, which are float32, to a; begun says whether a holds a sum to start from.
func addWide(a []float32, begun bool, srcs [][]byte, lo, hi int) {
	var x [groupSources][]float32
	size := Float32.Size()
	for len(srcs) > 0 {
		at := 0
		if begun {
			x[0], at = a, 1
		}
		n := load(&x, at, srcs, lo*size, hi*size)
		fold(Sum, a, &x, n)
		srcs, begun = srcs[n-at:], true
	}
}

// finishNarrow divides the accumulators a and writes them to elements [lo, hi) of both outputs, rounded unless they are wide.
func finishNarrow(s Spec, a []float32, dst, dst2 []byte, lo, hi int) {
	divide(s, a)
	size := s.outSize()
	out := dst[lo*size : hi*size]
	if s.Wide {
		copy(view[float32](out), a)
	} else {
		encode(s.DType, out, a)
	}
	if dst2 != nil {
		copy(dst2[lo*size:hi*size], out)
	}
}

// decode widens src into d.
func decode(t DType, d []float32, src []byte) {
	switch t {
	case Float16:
		decodeFloat16(d, view[uint16](src))
	case BFloat16:
		decodeBFloat16(d, view[uint16](src))
	case Float8E4M3:
		decodeFloat8(&float8E4M3Bits, d, src)
	case Float8E5M2:
		decodeFloat8(&float8E5M2Bits, d, src)
	}
}

// decodeSum writes d = x + y.
func decodeSum(t DType, d []float32, x, y []byte) {
	switch t {
	case Float16:
		decodeSumFloat16(d, view[uint16](x), view[uint16](y))
	case BFloat16:
		decodeSumBFloat16(d, view[uint16](x), view[uint16](y))
	case Float8E4M3:
		decodeSumFloat8(&float8E4M3Bits, d, x, y)
	case Float8E5M2:
		decodeSumFloat8(&float8E5M2Bits, d, x, y)
	}
}

// decodeAdd writes d = d + x + y.
func decodeAdd(t DType, d []float32, x, y []byte) {
	switch t {
	case Float16:
		decodeAddFloat16(d, view[uint16](x), view[uint16](y))
	case BFloat16:
		decodeAddBFloat16(d, view[uint16](x), view[uint16](y))
	case Float8E4M3:
		decodeAddFloat8(&float8E4M3Bits, d, x, y)
	case Float8E5M2:
		decodeAddFloat8(&float8E5M2Bits, d, x, y)
	}
}

// encode rounds a into dst.
func encode(t DType, dst []byte, a []float32) {
	switch t {
	case Float16:
		encodeFloat16(view[uint16](dst), a)
	case BFloat16:
		encodeBFloat16(view[uint16](dst), a)
	case Float8E4M3:
		encodeFloat8E4M3(dst, a)
	case Float8E5M2:
		encodeFloat8E5M2(dst, a)
	}
}
