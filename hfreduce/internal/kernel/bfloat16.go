// SPDX-License-Identifier: Apache-2.0

package kernel

import "math"

// BFloat16ToFloat32 returns the value of a bfloat16. It is exact.
func BFloat16ToFloat32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// Float32ToBFloat16 rounds f to the nearest bfloat16, ties to even. What lies beyond the largest one becomes infinity; a NaN
// keeps its sign and the upper bits of its payload and becomes quiet.
func Float32ToBFloat16(f float32) uint16 {
	u := math.Float32bits(f)
	if f != f {
		return uint16(u>>16) | 0x40
	}
	// The carry may run into the exponent, which is what rounding up to a power of two or to infinity means.
	return uint16((u + 0x7fff + (u >> 16 & 1)) >> 16)
}

func decodeBFloat16(d []float32, x []uint16) {
	x = x[:len(d)]
	for i := range d {
		d[i] = BFloat16ToFloat32(x[i])
	}
}

func decodeSumBFloat16(d []float32, x, y []uint16) {
	x, y = x[:len(d)], y[:len(d)]
	for i := range d {
		d[i] = BFloat16ToFloat32(x[i]) + BFloat16ToFloat32(y[i])
	}
}

func decodeAddBFloat16(d []float32, x, y []uint16) {
	x, y = x[:len(d)], y[:len(d)]
	for i := range d {
		d[i] = d[i] + BFloat16ToFloat32(x[i]) + BFloat16ToFloat32(y[i])
	}
}

func encodeBFloat16(d []uint16, x []float32) {
	x = x[:len(d)]
	for i := range d {
		d[i] = Float32ToBFloat16(x[i])
	}
}
