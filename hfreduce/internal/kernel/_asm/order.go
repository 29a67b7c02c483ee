// SPDX-License-Identifier: Apache-2.0

package main

import (
	. "github.com/mmcloughlin/avo/operand"
)

// order takes the maximum or the minimum. Floating-point numbers are compared as integers:
//
//	key = x                        if x is positive
//	key = x ^ (all bits but sign)  if it is negative
//
// orders them as IEEE 754's totalOrder does: -NaN, -Inf, ..., -0, +0, ..., Inf, NaN. Moved by the number of NaNs of one
// sign, those at the end that would lose wrap around to the end that wins. So neither NaN nor -0 needs a comparison of its
// own, and narrow types are not converted.
type order struct {
	op
	lane            // i8, i16, i32 or i64
	unsigned bool   // the numbers are unsigned integers
	nans     uint64 // NaNs of one sign; 0: the numbers are integers
}

func (c order) sides(f *function) (src, dst side) {
	s := side{1, f.bytes, c.lane.bytes()}
	return s, s
}

func (c order) setup(f *function) {
	switch {
	case c.flips(f):
		f.lanes(c.lane, c.sign())
	case c.nans > 0:
		f.lanes(c.lane, c.sign()-1)
		f.lanes(c.lane, c.shift())
		f.lanes(c.lane, -c.shift())
		if f.isa == avx512 && c.lane == i8 {
			f.lanes(c.lane, c.sign()-1+c.shift())
		}
	}
}

// lanes returns a constant of equal lanes, the lower bits of x.
func (f *function) lanes(l lane, x uint64) Op {
	switch l.bytes() {
	case 1:
		return f.c8(uint8(x))
	case 2:
		return f.c16(uint16(x))
	case 4:
		return f.c32(uint32(x))
	}
	return f.c64(x)
}

// sign returns a lane's sign bit.
func (c order) sign() uint64 { return 1 << (8*c.lane.bytes() - 1) }

// shift returns what moves the losing NaNs across the end.
func (c order) shift() uint64 {
	if c.op == maximum {
		return -c.nans
	}
	return c.nans
}

// flips reports whether unsigned numbers must become signed ones for want of an instruction.
func (c order) flips(f *function) bool { return c.unsigned && c.lane == i64 && f.isa == avx2 }

func (c order) decode(f *function, x []Op) []Op {
	switch {
	case c.flips(f):
		v := f.reg(x[0])
		f.xor(f.lanes(c.lane, c.sign()), v, v)
		return []Op{v}
	case c.nans == 0:
		return x
	}
	v, key := f.reg(x[0]), f.v()
	if f.isa == avx512 && c.lane == i8 {
		negative := f.K()
		f.VPMOVB2M(v, negative)
		f.VPADDB(f.lanes(c.lane, c.shift()), v, key)
		f.VPSUBB(v, f.reg(f.lanes(c.lane, c.sign()-1+c.shift())), negative, key)
		return []Op{key}
	}
	c.flipNegative(f, v)
	f.add(c.lane, f.lanes(c.lane, c.shift()), v)
	return []Op{v}
}

// flipNegative inverts all bits but the sign of negative lanes, which is its own inverse.
func (c order) flipNegative(f *function, v vec) {
	magnitude, negative := f.lanes(c.lane, c.sign()-1), f.v()
	switch {
	case f.isa == avx512 && c.lane == i8:
		k := f.K()
		f.VPMOVB2M(v, k)
		f.VPSUBB(v, f.reg(magnitude), k, v) // 0x7f - x = x ^ 0x7f, as bytes below zero
		return
	case c.lane == i8:
		f.VPCMPGTB(v, f.zero(), negative)
	case c.lane == i16:
		f.VPSRAW(U8(15), v, negative)
	case c.lane == i32:
		f.VPSRAD(U8(31), v, negative)
	case f.isa == avx512:
		f.VPSRAQ(U8(63), v, negative)
	default:
		f.VPCMPGTQ(v, f.zero(), negative)
	}
	if f.isa == avx512 {
		f.VPTERNLOGD(U8(0x78), magnitude, negative, v)
		return
	}
	f.VPAND(magnitude, negative, negative)
	f.VPXOR(negative, v, v)
}

func (order) scale(*function, []Op, Mem) []Op { panic("only sums are scaled here") }

func (c order) combine(f *function, a []vec, x []Op) {
	if c.lane == i64 && f.isa == avx2 {
		y, above := f.reg(x[0]), f.v()
		f.VPCMPGTQ(y, a[0], above)
		if c.op == maximum {
			f.VBLENDVPD(above, a[0], y, a[0])
		} else {
			f.VBLENDVPD(above, y, a[0], a[0])
		}
		return
	}
	c.instruction(f)(x[0], a[0], a[0])
}

// instruction returns the method that writes the instruction.
func (c order) instruction(f *function) func(...Op) {
	type key struct {
		lane
		op
		unsigned bool
	}
	return map[key]func(...Op){
		{i8, maximum, false}: f.VPMAXSB, {i8, minimum, false}: f.VPMINSB, {i8, maximum, true}: f.VPMAXUB, {i8, minimum, true}: f.VPMINUB,
		{i16, maximum, false}: f.VPMAXSW, {i16, minimum, false}: f.VPMINSW,
		{i32, maximum, false}: f.VPMAXSD, {i32, minimum, false}: f.VPMINSD, {i32, maximum, true}: f.VPMAXUD, {i32, minimum, true}: f.VPMINUD,
		{i64, maximum, false}: f.VPMAXSQ, {i64, minimum, false}: f.VPMINSQ, {i64, maximum, true}: f.VPMAXUQ, {i64, minimum, true}: f.VPMINUQ,
	}[key{c.lane, c.op, c.unsigned}]
}

func (order) divide(*function, []vec, Mem, bool) { panic("only sums are divided") }

func (c order) encode(f *function, a []vec) []vec {
	switch {
	case c.flips(f):
		f.xor(f.lanes(c.lane, c.sign()), a[0], a[0])
	case c.nans > 0:
		f.add(c.lane, f.lanes(c.lane, -c.shift()), a[0])
		c.flipNegative(f, a[0])
	}
	return a
}
