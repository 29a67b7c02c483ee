// SPDX-License-Identifier: Apache-2.0

package kernel

import "math"

// Float8E4M3ToFloat32 returns the value of an OCP FP8 E4M3. It is exact.
func Float8E4M3ToFloat32(b uint8) float32 { return math.Float32frombits(float8E4M3Bits[b]) }

// Float8E5M2ToFloat32 returns the value of an OCP FP8 E5M2. It is exact.
func Float8E5M2ToFloat32(b uint8) float32 { return math.Float32frombits(float8E5M2Bits[b]) }

// Float32ToFloat8E4M3 rounds f to the nearest OCP FP8 E4M3, ties to even. What lies beyond the largest one (448), and
// infinity, becomes NaN; the sign is kept.
func Float32ToFloat8E4M3(f float32) uint8 {
	u := math.Float32bits(f)
	return uint8(u>>24&0x80 | roundFloat8E4M3(u&0x7fffffff))
}

// roundFloat8E4M3 rounds a binary32 without its sign, in the manner of roundFloat16.
func roundFloat8E4M3(u uint32) uint32 {
	if u >= (127+9)<<23 { // from 512 on
		return 0x7f
	}
	// The last place of 2^14 is 2^-9, that of E4M3's subnormals, so that the addition rounds.
	sub := math.Float32bits(math.Float32frombits(u)+0x1p14) - (127+14)<<23
	r := (u - (127-7)<<23 + 0x7ffff + (u >> 20 & 1)) >> 20
	if u < (127-6)<<23 {
		r = sub
	}
	return min(r, 0x7f) // NaN stands where 480 would; the carry may have run beyond, to 512
}

// Float32ToFloat8E5M2 rounds f to the nearest OCP FP8 E5M2, ties to even. What lies beyond the largest one (57344) becomes
// infinity; a NaN keeps its sign and the upper bits of its payload and becomes quiet.
func Float32ToFloat8E5M2(f float32) uint8 {
	u := math.Float32bits(f)
	return uint8(u>>24&0x80 | roundFloat8E5M2(u&0x7fffffff))
}

// roundFloat8E5M2 rounds a binary32 without its sign, in the manner of roundFloat16.
func roundFloat8E5M2(u uint32) uint32 {
	if u >= (127+16)<<23 { // from 65536 on
		if u > 0x7f800000 {
			return 0x7e | u>>21&0x3
		}
		return 0x7c
	}
	// The last place of 2^7 is 2^-16, that of E5M2's subnormals, so that the addition rounds.
	sub := math.Float32bits(math.Float32frombits(u)+0x1p7) - (127+7)<<23
	r := (u - (127-15)<<23 + 0xfffff + (u >> 21 & 1)) >> 21 // the carry may run into the exponent, up to infinity
	if u < (127-14)<<23 {
		r = sub
	}
	return r
}

func decodeFloat8(bits *[256]uint32, d []float32, x []uint8) {
	x = x[:len(d)]
	for i := range d {
		d[i] = math.Float32frombits(bits[x[i]])
	}
}

func decodeSumFloat8(bits *[256]uint32, d []float32, x, y []uint8) {
	x, y = x[:len(d)], y[:len(d)]
	for i := range d {
		d[i] = math.Float32frombits(bits[x[i]]) + math.Float32frombits(bits[y[i]])
	}
}

func decodeAddFloat8(bits *[256]uint32, d []float32, x, y []uint8) {
	x, y = x[:len(d)], y[:len(d)]
	for i := range d {
		d[i] = d[i] + math.Float32frombits(bits[x[i]]) + math.Float32frombits(bits[y[i]])
	}
}

func encodeFloat8E4M3(d []uint8, x []float32) {
	x = x[:len(d)]
	for i := range d {
		d[i] = Float32ToFloat8E4M3(x[i])
	}
}

func encodeFloat8E5M2(d []uint8, x []float32) {
	x = x[:len(d)]
	for i := range d {
		u := math.Float32bits(x[i]) // Float32ToFloat8E5M2, which is too large to be inlined
		d[i] = uint8(u>>24&0x80 | roundFloat8E5M2(u&0x7fffffff))
	}
}
