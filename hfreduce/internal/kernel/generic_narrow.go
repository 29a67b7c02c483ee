// SPDX-License-Identifier: Apache-2.0

package kernel

// reduceNarrow reduces the types of 8 and 16 bits: float32 accumulators over all sources, one rounding at the end.
func reduceNarrow(s Spec, dst, dst2 []byte, srcs [][]byte, scales []float64) {
	if s.Op == Sum && scales == nil {
		sumNarrow(s, dst, dst2, srcs)
		return
	}
	var acc, wide [blockElems]float32
	step := blockElems * s.DType.Size()
	for lo := 0; lo < len(dst); lo += step {
		hi := min(lo+step, len(dst))
		n := (hi - lo) / s.DType.Size()
		a, x := acc[:n], wide[:n]
		decode(s.DType, a, srcs[0][lo:hi])
		if scales != nil {
			scale(s, a, a, scales[0])
		}
		for j := 1; j < len(srcs); j++ {
			decode(s.DType, x, srcs[j][lo:hi])
			if scales != nil {
				scale(s, x, x, scales[j])
			}
			fold2(s.Op, a, a, x)
		}
		finishNarrow(s, a, dst, dst2, lo, hi)
	}
}

// sumNarrow is reduceNarrow for what nearly every call is, a plain sum: it widens and adds in one loop, two sources at a time.
func sumNarrow(s Spec, dst, dst2 []byte, srcs [][]byte) {
	var acc [blockElems]float32
	step := blockElems * s.DType.Size()
	for lo := 0; lo < len(dst); lo += step {
		hi := min(lo+step, len(dst))
		a := acc[:(hi-lo)/s.DType.Size()]
		j := 1
		if len(srcs)%2 == 0 {
			decodeSum(s.DType, a, srcs[0][lo:hi], srcs[1][lo:hi])
			j = 2
		} else {
			decode(s.DType, a, srcs[0][lo:hi])
		}
		for ; j+1 < len(srcs); j += 2 {
			decodeAdd(s.DType, a, srcs[j][lo:hi], srcs[j+1][lo:hi])
		}
		finishNarrow(s, a, dst, dst2, lo, hi)
	}
}

// finishNarrow divides the accumulators a and rounds them into bytes [lo, hi) of both outputs.
func finishNarrow(s Spec, a []float32, dst, dst2 []byte, lo, hi int) {
	divide(s, a)
	encode(s.DType, dst[lo:hi], a)
	if dst2 != nil {
		copy(dst2[lo:hi], dst[lo:hi])
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
