// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"

	. "github.com/mmcloughlin/avo/operand"
)

// float8 is an OCP FP8 format. It goes through binary16, whose exponent has as many bits as E5M2's: an E5M2 number is the
// upper byte of a binary16. An E4M3 number, shifted to the place of binary16's exponent, is one 2^8 too small, subnormal
// numbers included. Only its NaN needs care.
//
// Rounding. The sum of few numbers is a multiple of the smallest subnormal one, so that below the normal numbers nothing is
// rounded. Above, the float32 is cut to a binary16 whose last bit says whether anything was lost (rounding to odd); as it
// has at least two bits more than the result, that can be rounded from there, in words, without a second error. Where
// accumulators are scaled, divided or given, settle first rounds them to the result's grid, which is what costs most.
type float8 struct {
	mantissa int // bits
	bias     int
	e4m3     bool
}

var (
	float8E4M3 = float8{mantissa: 3, bias: 7, e4m3: true}
	float8E5M2 = float8{mantissa: 2, bias: 15}
)

func (float8) geometry(f *function) (element, bytes int) { return 1, f.bytes }

// drop returns how many bits of a binary16 go when it is rounded.
func (t float8) drop() int { return 10 - t.mantissa }

// small reports whether accumulators are kept 2^8 too small, which saves E4M3 a multiplication for each number; but products
// would not be those of float32, nor would a scaled sum that leaves its range.
func (t float8) small(c narrow) bool { return t.e4m3 && !c.arbitrary() && !c.wideOut }

func (t float8) setup(f *function, c narrow) {
	if !c.wideIn {
		t.setupWiden(f, c)
	}
	c.setupNaNs(f)
	if f.isa == avx2 || c.wideOut {
		return // constants are memory; what remains is for output
	}
	t.setupRound(f, c)
}

func (t float8) setupRound(f *function, c narrow) {
	if c.arbitrary() {
		t.grid(f, c)
		if t.e4m3 {
			f.c32(math.Float32bits(0x1p-8))
		}
	} else {
		if t.e4m3 {
			f.c32(1 << 20)
			f.c32(1<<19 - 1)
			f.c32(1 << 19)
		} else {
			f.c32(0x1fff)
			f.c32(0x2000)
			f.c16(1 << t.drop())
			f.c16(1<<(t.drop()-1) - 1)
			f.c16(1 << (t.drop() - 1))
		}
	}
	f.constant(t.bytesOf(c))
	if t.e4m3 {
		f.c8(0x7f)
		f.c8(0x80)
	}
}

// grid returns the constants of settle.
func (t float8) grid(f *function, c narrow) (exponent, lowest, highest, magic, sign Op) {
	shift := 0 // of all exponents
	if t.small(c) {
		shift = -8
	}
	at := func(e int) uint32 { return uint32(127+e+shift) << 23 }
	last := 23 - t.mantissa // places from the last one of float32 up to that of the result
	return f.c32(0x7f800000), f.c32(at(1 - t.bias)), f.c32(at(t.overflow())), f.c32(uint32(last)<<23 | 0x00400000), f.c32(0x80000000)
}

// overflow returns the exponent of the first power of two beyond the largest number.
func (t float8) overflow() int {
	if t.e4m3 {
		return 9
	}
	return 16
}

// settle rounds each accumulator to a number of the format, still as float32: adding and subtracting 1.5 * 2^23 times the
// result's last place leaves nothing below that.
func (t float8) settle(f *function, c narrow, a []vec) {
	exponent, lowest, highest, magic, sign := t.grid(f, c)
	for _, v := range a {
		m, y := f.v(), f.v()
		f.and(exponent, v, m)
		f.VPMAXUD(lowest, m, m)
		f.VPMINUD(highest, m, m) // beyond, everything overflows; NaN and infinity stay what they are
		f.VPADDD(magic, m, m)
		f.VADDPS(m, v, y)
		f.VSUBPS(m, y, y)
		f.takeMasked(v, sign, y) // of zero
		f.move(y, v)
	}
}

// round makes bytes of accumulators.
func (t float8) round(f *function, c narrow, a []vec) vec {
	var words [2]vec
	for i := range words {
		words[i] = f.join(t.toFloat16(f, c, a[2*i]), t.toFloat16(f, c, a[2*i+1]))
		if !c.arbitrary() && !(f.isa == avx512 && t.e4m3) {
			t.roundWords(f, words[i])
		}
	}
	if f.isa == avx512 {
		return t.packTables(f, c, words)
	}
	return t.packShifts(f, words)
}

// toFloat16 converts one accumulator, losing nothing that rounding to the result could need.
func (t float8) toFloat16(f *function, c narrow, v vec) vec {
	h := f.h()
	if c.arbitrary() { // settled: the conversion is exact
		if t.e4m3 {
			f.VMULPS(f.c32(math.Float32bits(0x1p-8)), v, v)
		}
		f.VCVTPS2PH(U8(0), v, h)
		return h
	}
	switch {
	case f.isa == avx2:
		lost := f.v()
		f.VPAND(f.c32(0x1fff), v, lost)
		f.VPADDD(f.c32(0x1fff), lost, lost) // carries into bit 13, the last of a binary16, if any bit is set
		f.orMasked(lost, f.c32(0x2000), v)
	case t.e4m3:
		last, below, half := f.c32(1<<20), f.c32(1<<19-1), f.c32(1<<19)
		odd, up := f.K(), f.v()
		f.VPTESTMD(last, v, odd)
		f.VPADDD(below, v, up)
		f.VPADDD(half, v, odd, up)
		v = up
	default:
		lost := f.K()
		f.VPTESTMD(f.c32(0x1fff), v, lost)
		f.VPORD(f.c32(0x2000), v, lost, v)
	}
	f.VCVTPS2PH(U8(3), v, h) // cut
	return h
}

// roundWords rounds binary16 numbers so that their lower bits can be cut off. As all numbers here have a NaN's payload empty,
// no carry reaches the sign.
func (t float8) roundWords(f *function, w vec) {
	last, below, half := f.c16(1<<t.drop()), f.c16(1<<(t.drop()-1)-1), f.c16(1<<(t.drop()-1))
	if f.isa == avx512 {
		odd, up := f.K(), f.v()
		f.VPTESTMW(last, w, odd)
		f.VPADDW(below, w, up)
		f.VPADDW(half, w, odd, up)
		f.move(up, w)
		return
	}
	odd := f.v()
	f.VPSRLW(U8(uint64(t.drop())), w, odd)
	f.VPAND(f.c16(1), odd, odd)
	f.VPADDW(below, w, w)
	f.VPADDW(odd, w, w)
}

// packTables takes the bytes out of words by a table of where they lie. An E4M3 number lies across two bytes: its magnitude
// is the upper one of the words shifted left by one, its sign that of the words. What is beyond its NaN becomes NaN.
func (t float8) packTables(f *function, c narrow, words [2]vec) vec {
	at := f.reg(f.constant(t.bytesOf(c)))
	if !t.e4m3 {
		f.VPERMT2B(words[1], at, words[0])
		return words[0]
	}
	low, high := f.v(), f.v()
	f.VPSLLW(U8(1), words[0], low)
	f.VPSLLW(U8(1), words[1], high)
	f.VPERMT2B(high, at, low)
	f.VPERMT2B(words[1], at, words[0])
	f.VPMINUB(f.c8(0x7f), low, low)
	f.orMasked(words[0], f.c8(0x80), low)
	return low
}

// packShifts is packTables for words that hold the even and the odd bytes.
func (t float8) packShifts(f *function, words [2]vec) vec {
	join := func(even, odd vec) vec { // the upper bytes of words
		e, o := f.v(), f.v()
		f.VPSRLW(U8(8), even, e)
		f.VPAND(f.c16(0xff00), odd, o)
		f.VPOR(o, e, e)
		return e
	}
	if !t.e4m3 {
		return join(words[0], words[1])
	}
	even, odd := f.v(), f.v()
	f.VPSLLW(U8(1), words[0], even)
	f.VPSLLW(U8(1), words[1], odd)
	out := join(even, odd)
	f.VPMINUB(f.c8(0x7f), out, out)
	f.orMasked(join(words[0], words[1]), f.c8(0x80), out)
	return out
}
