// SPDX-License-Identifier: Apache-2.0

package kernel

import "math/bits"

// divider divides by an invariant integer, without the division instruction: Granlund and Montgomery, "Division by Invariant
// Integers using Multiplication" (PLDI 1994), figure 4.1.
type divider struct {
	multiplier     uint64 // the upper 64 of the 65 bits of 2^(64+l)/d, rounded up; the first of them is 1
	shift1, shift2 uint8
}

// newDivider returns the divider by d, which is not 0.
func newDivider(d uint64) divider {
	l := uint8(bits.Len64(d - 1))
	above := uint64(1)<<l - d // with l = 64, 1<<l is 0, which is right modulo 2^64
	m, _ := bits.Div64(above, 0, d)
	return divider{multiplier: m + 1, shift1: min(l, 1), shift2: max(l, 1) - 1}
}

// unsigned returns x / d.
func (v divider) unsigned(x uint64) uint64 {
	t, _ := bits.Mul64(v.multiplier, x)
	return (t + (x-t)>>(v.shift1&63)) >> (v.shift2 & 63)
}

// divide returns x / d, truncated towards zero; unsigned says that x is the bits of a uint64.
func (v divider) divide(x int64, unsigned bool) uint64 {
	if unsigned {
		return v.unsigned(uint64(x))
	}
	sign := uint64(x >> 63)
	return (v.unsigned((uint64(x)^sign)-sign) ^ sign) - sign
}

// quotients holds the quotient of every byte.
type quotients [256]uint8

// divideTable divides bytes of type t by looking their quotients up.
func divideTable[T number](t DType, d []T, divisor int) {
	var table quotients
	by := newDivider(uint64(divisor))
	for i := range table {
		x := int64(i)
		if t == Int8 {
			x = int64(int8(i))
		}
		table[i] = uint8(by.divide(x, false))
	}
	for i := range d {
		d[i] = T(table[uint8(d[i])])
	}
}
