// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"

	. "github.com/mmcloughlin/avo/operand"
)

// With AVX-512, float8 numbers are looked up: tables of 128 bytes give the two upper bytes of the float32, the rest of which
// is zero. The accumulators of a block are, where order does not matter, the even and the odd ones of its lower and of its
// upper halves of 16 bytes.
//
// With AVX2 they are shifted into the places of binary16. The accumulators are the lower and the upper half of the even
// ones, then of the odd ones.

func (t float8) setupWiden(f *function, c narrow) {
	if f.isa == avx2 {
		return
	}
	upper, lower := t.tables(c)
	for _, table := range [][]byte{upper[:64], upper[64:], lower[:64], lower[64:]} {
		f.constant(table)
	}
	f.c8(0x80)
	switch {
	case c.wideOut:
		for q := range 4 {
			f.constant(quarter(q))
		}
	case !c.paired:
		f.c32(0xffff0000)
	}
}

// value returns the number of a code without sign, as it is accumulated.
func (t float8) value(c narrow, code int) float32 {
	exponent, fraction := code>>t.mantissa, code&(1<<t.mantissa-1)
	v := math.Ldexp(float64(fraction), 1-t.bias-t.mantissa)
	if exponent > 0 {
		v = math.Ldexp(float64(fraction|1<<t.mantissa), exponent-t.bias-t.mantissa)
	}
	switch {
	case t.e4m3 && code == 0x7f:
		return float32(math.NaN())
	case !t.e4m3 && code == 0x7c:
		return float32(math.Inf(1))
	case !t.e4m3 && code > 0x7c:
		return float32(math.NaN())
	}
	if t.small(c) {
		v /= 256
	}
	return float32(v)
}

// tables returns the upper two bytes of the float32 of each code without sign.
func (t float8) tables(c narrow) (upper, lower []byte) {
	for code := range 128 {
		bits := math.Float32bits(t.value(c, code))
		if bits<<16 != 0 {
			panic("a number that does not fit in two bytes")
		}
		upper, lower = append(upper, byte(bits>>24)), append(lower, byte(bits>>16))
	}
	return upper, lower
}

func (t float8) widen(f *function, c narrow, x Op) []vec {
	if f.isa == avx512 {
		return t.lookUp(f, c, f.reg(x))
	}
	return t.shift(f, c, f.reg(x))
}

// words returns the upper two bytes of the float32 of each byte of x.
func (t float8) words(f *function, c narrow, x vec) (upper, lower vec) {
	u, l := t.tables(c)
	table := func(from []byte) vec { return f.reg(f.constant(from)) }
	upper, lower = f.copy(x), f.copy(x)
	f.VPERMI2B(table(u[64:]), table(u[:64]), upper)
	f.VPERMI2B(table(l[64:]), table(l[:64]), lower)
	f.orMasked(x, f.c8(0x80), upper)
	return upper, lower
}

func (t float8) lookUp(f *function, c narrow, x vec) []vec {
	upper, lower := t.words(f, c, x)
	if c.wideOut { // in the order of memory
		var all []vec
		for q := range 4 {
			v := f.copy(f.reg(f.constant(quarter(q))))
			f.VPERMI2B(upper, lower, v)
			f.VPSLLD(U8(16), v, v)
			all = append(all, v)
		}
		return all
	}
	var all []vec
	for _, unpack := range []func(...Op){f.VPUNPCKLBW, f.VPUNPCKHBW} {
		odd, even := f.v(), f.v()
		unpack(upper, lower, odd)
		f.VPSLLD(U8(16), odd, even)
		f.and(f.c32(0xffff0000), odd, odd)
		all = append(all, even, odd)
	}
	return all
}

// quarter returns, for 16 elements from 16*q on, where the bytes of their words lie: in a vector of lower and one of upper
// bytes. The other half of each doubleword does not matter.
func quarter(q int) []byte {
	var at []byte
	for i := range 16 {
		at = append(at, byte(16*q+i), byte(64+16*q+i), 0, 0)
	}
	return at
}

func (t float8) shift(f *function, c narrow, x vec) []vec {
	even, odd := f.v(), f.v()
	f.VPSLLW(U8(8), x, even)
	if t.e4m3 {
		f.VPSRAW(U8(1), even, even)
		f.VPSRAW(U8(1), x, odd)
		for _, w := range []vec{even, odd} {
			f.VPAND(f.c16(0xbf80), w, w)
			nan := f.v()
			f.VPADDW(f.c16(0x0080), w, nan) // reaches the exponent's first bit only from NaN, whose exponent is to be all ones
			f.orMasked(nan, f.c16(0x4000), w)
		}
	} else {
		f.VPAND(f.c16(0xff00), x, odd)
	}
	var all []vec
	for _, w := range []vec{even, odd} {
		low, high := f.v(), f.v()
		f.VCVTPH2PS(f.low(w), low)
		f.VCVTPH2PS(f.high(w), high)
		all = append(all, low, high)
	}
	if t.e4m3 && !t.small(c) {
		for _, v := range all {
			f.VMULPS(f.c32(math.Float32bits(0x1p8)), v, v)
		}
	}
	return all
}

func (float8) multiplies(f *function) bool { return f.isa == avx2 }

// order and disorder are for AVX2 alone; with AVX-512 the tables see to it.
func (float8) order(f *function, a []vec) []vec {
	if f.isa == avx512 {
		return a
	}
	v0, v1 := f.interleave(a[0], a[2])
	v2, v3 := f.interleave(a[1], a[3])
	return []vec{v0, v1, v2, v3}
}

func (float8) disorder(f *function, a []vec) []vec {
	if f.isa == avx512 {
		return a
	}
	a0, a2 := f.deinterleave(a[0], a[1])
	a1, a3 := f.deinterleave(a[2], a[3])
	return []vec{a0, a1, a2, a3}
}

// bytesOf returns, for each byte of a block, where it lies in the words of round: the upper byte of one of 64 words, which
// are in the order of the accumulators from which they came.
func (t float8) bytesOf(c narrow) []byte {
	at := make([]byte, 64)
	for word := range at {
		acc, lane, i := word/16, word%16/4, word%4 // an accumulator has four lanes of four numbers
		element := word
		switch {
		case c.paired:
			element = 16*lane + 4*acc + i
		case !c.wideIn:
			element = 16*lane + acc/2*8 + 2*i + acc%2
		}
		at[element] = byte(2*word + 1)
	}
	return at
}
