// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// fill makes random elements of one type, 8 bytes at a time: base + random bits under mask, lane by lane. No lane carries
// into the next.
type fill struct{ base, mask uint64 }

// fillOf returns how to make the elements of a type. Integers are any. Floating-point numbers are in [1, 2), for products
// near 1: from 0.9375 to 1.125, and in 8 bits, where neighbours are far apart, 1 and the one below. So sums of MaxSources
// numbers, scaled or divided, and products stay clear of overflow and of subnormal numbers in each type.
func fillOf(d hfreduce.DataType, prod bool) fill {
	var one uint64
	var mantissa int // bits of it
	switch d {
	case hfreduce.TypeFloat16:
		one, mantissa = uint64(hfreduce.ToFloat16(1)), 10
	case hfreduce.TypeBFloat16:
		one, mantissa = uint64(hfreduce.ToBFloat16(1)), 7
	case hfreduce.TypeFloat32:
		one, mantissa = 127<<23, 23
	case hfreduce.TypeFloat64:
		one, mantissa = 1023<<52, 52
	case hfreduce.TypeFloat8E4M3:
		one, mantissa = uint64(hfreduce.ToFloat8E4M3(1)), 3
	case hfreduce.TypeFloat8E5M2:
		one, mantissa = uint64(hfreduce.ToFloat8E5M2(1)), 2
	default:
		return fill{mask: ^uint64(0)}
	}
	bits := 8 * d.Size()
	if !prod {
		return fill{lanes(one, bits), lanes(1<<mantissa-1, bits)}
	}
	near := max(0, mantissa-3)
	return fill{lanes(one-1<<near, bits), lanes(2<<near-1, bits)}
}

// lanes repeats an element of so many bits over 64.
func lanes(element uint64, bits int) uint64 {
	for ; bits < 64; bits *= 2 {
		element |= element << bits
	}
	return element
}

// into fills a buffer, whose length is a multiple of 8.
func (f fill) into(b []byte, seed uint64) {
	random := rand.NewPCG(seed, f.base)
	for ; len(b) >= 8; b = b[8:] {
		binary.NativeEndian.PutUint64(b, f.base+random.Uint64()&f.mask)
	}
}
