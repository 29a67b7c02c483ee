// SPDX-License-Identifier: Apache-2.0

package kernel

import "math"

// Float16ToFloat32 returns the value of an IEEE 754 binary16. It is exact.
func Float16ToFloat32(h uint16) float32 {
	em := uint32(h&0x7fff) << 13 // exponent and mantissa in binary32's places
	u := em + (127-15)<<23
	if em >= 31<<23 { // infinity, NaN: exponent 31 becomes 255
		u += (127 - 15) << 23
	}
	// A subnormal gets an implied one, which the subtraction takes off again. Computed for all, so that it needs no branch.
	sub := math.Float32bits(math.Float32frombits(em+(127-14)<<23) - 0x1p-14)
	if em < 1<<23 {
		u = sub
	}
	return math.Float32frombits(u | uint32(h&0x8000)<<16)
}

// Float32ToFloat16 rounds f to the nearest IEEE 754 binary16, ties to even. What lies beyond the largest one becomes
// infinity; a NaN keeps its sign and the upper bits of its payload and becomes quiet.
func Float32ToFloat16(f float32) uint16 {
	u := math.Float32bits(f)
	return uint16(u>>16&0x8000 | roundFloat16(u&0x7fffffff))
}

// roundFloat16 rounds a binary32 without its sign. Zeros and subnormals often stand among other numbers, so that the choice
// between them and normal ones is no branch.
func roundFloat16(u uint32) uint32 {
	if u >= (127+16)<<23 { // from 65536 on
		if u > 0x7f800000 {
			return 0x7e00 | u>>13&0x3ff
		}
		return 0x7c00
	}
	// The last place of 0.5 is 2^-24, that of binary16's subnormals, so that the addition rounds.
	sub := math.Float32bits(math.Float32frombits(u)+0.5) - (127-1)<<23
	r := (u - (127-15)<<23 + 0xfff + (u >> 13 & 1)) >> 13 // the carry may run into the exponent, up to infinity
	if u < (127-14)<<23 {
		r = sub
	}
	return r
}

func decodeFloat16(d []float32, x []uint16) {
	x = x[:len(d)]
	for i := range d {
		d[i] = Float16ToFloat32(x[i])
	}
}

func decodeSumFloat16(d []float32, x, y []uint16) {
	x, y = x[:len(d)], y[:len(d)]
	for i := range d {
		d[i] = Float16ToFloat32(x[i]) + Float16ToFloat32(y[i])
	}
}

func decodeAddFloat16(d []float32, x, y []uint16) {
	x, y = x[:len(d)], y[:len(d)]
	for i := range d {
		d[i] = d[i] + Float16ToFloat32(x[i]) + Float16ToFloat32(y[i])
	}
}

func encodeFloat16(d []uint16, x []float32) {
	x = x[:len(d)]
	for i := range d {
		u := math.Float32bits(x[i]) // Float32ToFloat16, which is too large to be inlined
		d[i] = uint16(u>>16&0x8000 | roundFloat16(u&0x7fffffff))
	}
}
