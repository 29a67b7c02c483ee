// SPDX-License-Identifier: Apache-2.0

package main

import (
	. "github.com/mmcloughlin/avo/operand"
)

// native adds and multiplies types that accumulate in themselves.
type native struct {
	lane
	op
}

func (c native) sides(f *function) (src, dst side) {
	s := side{1, f.bytes, c.lane.bytes()}
	return s, s
}

func (native) setup(*function) {}

func (native) decode(_ *function, x []Op) []Op { return x }

func (c native) scale(f *function, x []Op, m Mem) []Op { return f.scaleLanes(c.lane, x, m) }

func (c native) combine(f *function, a []vec, x []Op) { f.apply(c.op, c.lane, x[0], a[0]) }

func (c native) divide(f *function, a []vec, m Mem, multiply bool) {
	f.divideLanes(c.lane, a, m, multiply)
}

func (native) encode(_ *function, a []vec) []vec { return a }

// bytePairs multiplies bytes, for which there is no instruction: the accumulators are words, one holds the products of the
// even bytes and the other those of the odd ones. Their upper halves are garbage, which no product carries down.
type bytePairs struct{ op }

func (bytePairs) sides(f *function) (src, dst side) { return native{lane: i8}.sides(f) }

func (bytePairs) setup(f *function) { f.c16(0x00ff) }

func (bytePairs) decode(f *function, x []Op) []Op {
	even, odd := f.reg(x[0]), f.v()
	f.VPSRLW(U8(8), even, odd)
	return []Op{even, odd}
}

func (bytePairs) scale(f *function, x []Op, m Mem) []Op { return f.scaleLanes(i16, x, m) }

func (c bytePairs) combine(f *function, a []vec, x []Op) {
	f.apply(c.op, i16, x[0], a[0])
	f.apply(c.op, i16, x[1], a[1])
}

func (bytePairs) divide(*function, []vec, Mem, bool) { panic("integers are divided elsewhere") }

func (bytePairs) encode(f *function, a []vec) []vec {
	f.VPSLLW(U8(8), a[1], a[1])
	f.takeMasked(a[0], f.c16(0x00ff), a[1])
	return a[1:]
}
