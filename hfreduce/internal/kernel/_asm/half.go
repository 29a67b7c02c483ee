// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"

	. "github.com/mmcloughlin/avo/operand"
)

// narrow is a codec of a floating-point type of 8 or 16 bits, which accumulates in float32. wideIn and wideOut say that the
// sources or the output are float32 themselves.
type narrow struct {
	format
	op
	wideIn, wideOut bool
	scaled          bool // accumulators are any float32, not just what comes of adding the type's numbers
	paired          bool // part of pairs
}

// format is a type of 8 or 16 bits. A block's accumulators are in an order of the format's own.
type format interface {
	// geometry returns the bytes of an element and of the vector that one block fills.
	geometry(f *function) (element, bytes int)
	// setup loads constants for what c does.
	setup(f *function, c narrow)
	// widen returns the float32 accumulators of a block.
	widen(f *function, c narrow, x Op) []vec
	// multiplies reports whether accumulators are added to by a multiplication with 1, the result of which is the same: some
	// processors multiply and convert at the same time, but add and convert one after the other.
	multiplies(f *function) bool
	// order brings accumulators into the order of memory, disorder back.
	order(f *function, a []vec) []vec
	disorder(f *function, a []vec) []vec
	// settle prepares accumulators that may be any float32 (see narrow.scaled) for round.
	settle(f *function, c narrow, a []vec)
	// round makes a block.
	round(f *function, c narrow, a []vec) vec
}

func (c narrow) sides(f *function) (src, dst side) {
	element, bytes := c.geometry(f)
	small := side{1, bytes, element}
	wide := side{bytes / element * 4 / f.bytes, f.bytes, 4}
	src, dst = small, small
	if c.wideIn {
		src = wide
	}
	if c.wideOut {
		dst = wide
	}
	return src, dst
}

func (c narrow) setup(f *function) {
	c.format.setup(f, c)
	if c.op == sum && c.multiplies(f) {
		f.one = f.reg(f.c32(math.Float32bits(1)))
	}
}

func (c narrow) decode(f *function, x []Op) []Op {
	if c.wideIn {
		return x
	}
	var values []Op
	for _, v := range c.widen(f, c, x[0]) {
		values = append(values, v)
	}
	return values
}

func (narrow) scale(f *function, x []Op, m Mem) []Op { return f.scaleLanes(f32, x, m) }

func (c narrow) combine(f *function, a []vec, x []Op) {
	for i := range a {
		switch {
		case c.op == prod:
			f.mul(f32, x[i], a[i])
		case c.multiplies(f):
			f.VFMADD231PS(f.one, f.reg(x[i]), a[i]) // x * 1 + a
		default:
			f.add(f32, x[i], a[i])
		}
	}
}

func (c narrow) divide(f *function, a []vec, m Mem, multiply bool) {
	f.divideLanes(f32, a, m, multiply)
	if !c.wideOut && !c.arbitrary() {
		c.settle(f, c, a) // arbitrary ones are settled in encode
	}
}

// arbitrary reports whether accumulators may be any float32 even without a division.
func (c narrow) arbitrary() bool { return c.wideIn || c.scaled || c.op == prod }

func (c narrow) encode(f *function, a []vec) []vec {
	if c.wideIn {
		a = c.disorder(f, a)
	}
	if c.wideOut {
		return c.order(f, a)
	}
	if c.wideIn {
		for _, v := range a {
			f.quietNaNs(v)
		}
	}
	if c.arbitrary() {
		c.settle(f, c, a)
	}
	return []vec{c.round(f, c, a)}
}

// float16 is IEEE 754's binary16, for which there are instructions.
type float16 struct{}

func (float16) geometry(f *function) (element, bytes int) { return 2, f.bytes / 2 }

func (float16) setup(f *function, c narrow) { c.setupNaNs(f) }

func (float16) widen(f *function, _ narrow, x Op) []vec {
	v := f.v()
	f.VCVTPH2PS(x, v)
	return []vec{v}
}

func (float16) multiplies(*function) bool { return true }

func (float16) order(_ *function, a []vec) []vec    { return a }
func (float16) disorder(_ *function, a []vec) []vec { return a }

func (float16) settle(*function, narrow, []vec) {}

func (float16) round(f *function, _ narrow, a []vec) vec {
	h := f.h()
	f.VCVTPS2PH(U8(0), a[0], h)
	return h
}

// bfloat16 is the upper half of a float32. The accumulators of a block are its even and its odd elements.
type bfloat16 struct{}

func (bfloat16) geometry(f *function) (element, bytes int) { return 2, f.bytes }

func (bfloat16) setup(f *function, c narrow) {
	f.c32(0xffff0000)
	f.c32(0x00007fff)
	if f.isa == avx512 {
		f.c32(0x00010000)
		f.c32(0x00008000)
	} else {
		f.c32(1)
	}
	c.setupNaNs(f)
	c.setupOrder(f)
}

// setupNaNs loads the constants of quietNaNs where it is needed.
func (c narrow) setupNaNs(f *function) {
	if c.wideIn {
		f.c32(0x00400000)
		f.c32(0xffc00000)
	}
}

// setupOrder loads the constants of interleave and deinterleave where they are needed.
func (c narrow) setupOrder(f *function) {
	if f.isa == avx512 && c.wideIn {
		f.index32(0, 2)
		f.index32(1, 2)
	}
	if f.isa == avx512 && c.wideOut {
		f.index32(0, 1)
		f.index32(8, 1)
	}
}

func (bfloat16) widen(f *function, _ narrow, x Op) []vec {
	odd, even := f.reg(x), f.v()
	f.VPSLLD(U8(16), odd, even)
	f.and(f.c32(0xffff0000), odd, odd)
	return []vec{even, odd}
}

func (bfloat16) multiplies(f *function) bool { return f.isa == avx512 }

func (bfloat16) order(f *function, a []vec) []vec {
	low, high := f.interleave(a[0], a[1])
	return []vec{low, high}
}

func (bfloat16) disorder(f *function, a []vec) []vec {
	even, odd := f.deinterleave(a[0], a[1])
	return []vec{even, odd}
}

func (bfloat16) settle(*function, narrow, []vec) {}

// round rounds in integers: half of the last place is added, less one if that place is even, and the carry does the rest. A
// NaN passes unharmed, because the lower half of each is zero: they come from a bfloat16, from an invalid operation or from
// quietNaNs. (The processors' own conversion to bfloat16 takes subnormal numbers as zero.)
func (bfloat16) round(f *function, _ narrow, a []vec) vec {
	up, even := f.c32(0x00007fff), f.c32(0x00010000)
	if f.isa == avx2 {
		even = f.c32(1)
	}
	for i, v := range a {
		t := f.v()
		if f.isa == avx512 {
			k := f.K()
			f.VPTESTMD(even, v, k)
			f.VPADDD(up, v, t)
			f.VPADDD(f.c32(0x00008000), v, k, t)
		} else {
			f.VPSRLD(U8(16), v, t)
			f.VPAND(even, t, t)
			f.VPADDD(up, t, t)
			f.VPADDD(v, t, t)
		}
		a[i] = t
	}
	f.VPSRLD(U8(16), a[0], a[0])
	f.orMasked(a[1], f.c32(0xffff0000), a[0])
	return a[0]
}
