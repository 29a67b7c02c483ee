// SPDX-License-Identifier: Apache-2.0

package main

import (
	. "github.com/mmcloughlin/avo/operand"
)

// lane is what an accumulator's register is made of.
type lane int

const (
	f32 lane = iota
	f64
	i8
	i16
	i32
	i64
)

// bytes returns the size of a lane.
func (l lane) bytes() int { return [...]int{f32: 4, f64: 8, i8: 1, i16: 2, i32: 4, i64: 8}[l] }

// op is an operator.
type op int

const (
	sum op = iota
	prod
	maximum
	minimum
)

// add computes a += x.
func (f *function) add(l lane, x Op, a vec) {
	switch l {
	case f32:
		f.VADDPS(x, a, a)
	case f64:
		f.VADDPD(x, a, a)
	case i8:
		f.VPADDB(x, a, a)
	case i16:
		f.VPADDW(x, a, a)
	case i32:
		f.VPADDD(x, a, a)
	case i64:
		f.VPADDQ(x, a, a)
	}
}

// mul computes a *= x.
func (f *function) mul(l lane, x Op, a vec) {
	switch {
	case l == f32:
		f.VMULPS(x, a, a)
	case l == f64:
		f.VMULPD(x, a, a)
	case l == i16:
		f.VPMULLW(x, a, a)
	case l == i32:
		f.VPMULLD(x, a, a)
	case l == i64 && f.isa == avx512:
		f.VPMULLQ(x, a, a)
	case l == i64:
		f.mul64(x, a)
	default:
		panic("no product of bytes")
	}
}

// mul64 computes a *= x in 64-bit lanes from products of halves.
func (f *function) mul64(x Op, a vec) {
	y := f.reg(x)
	t, u := f.v(), f.v()
	f.VPSRLQ(U8(32), a, t)
	f.VPMULUDQ(y, t, t) // high(a) * low(x)
	f.VPSRLQ(U8(32), y, u)
	f.VPMULUDQ(a, u, u) // low(a) * high(x)
	f.VPADDQ(u, t, t)
	f.VPSLLQ(U8(32), t, t)
	f.VPMULUDQ(y, a, a)
	f.VPADDQ(t, a, a)
}

// apply computes a += x or a *= x.
func (f *function) apply(o op, l lane, x Op, a vec) {
	if o == prod {
		f.mul(l, x, a)
	} else {
		f.add(l, x, a)
	}
}

// broadcast repeats the lane at m, of 8 bytes of which the first are meant.
func (f *function) broadcast(l lane, m Mem) vec {
	v := f.v()
	switch l.bytes() {
	case 2:
		f.VPBROADCASTW(m, v)
	case 4:
		f.VPBROADCASTD(m, v)
	case 8:
		f.VPBROADCASTQ(m, v)
	}
	return v
}

// scaleLanes multiplies x with the factor at m.
func (f *function) scaleLanes(l lane, x []Op, m Mem) []Op {
	factor := f.broadcast(l, m)
	var scaled []Op
	for _, v := range x {
		d := f.v()
		switch {
		case l == f32:
			f.VMULPS(v, factor, d)
		case l == f64:
			f.VMULPD(v, factor, d)
		default:
			d = f.copy(v)
			f.mul(l, factor, d)
		}
		scaled = append(scaled, d)
	}
	return scaled
}

// divideLanes multiplies the accumulators with the factor at m or divides them by it.
func (f *function) divideLanes(l lane, a []vec, m Mem, multiply bool) {
	factor := f.broadcast(l, m)
	for _, v := range a {
		switch {
		case multiply:
			f.mul(l, factor, v)
		case l == f32:
			f.VDIVPS(factor, v, v)
		case l == f64:
			f.VDIVPD(factor, v, v)
		}
	}
}

// quietNaNs makes every NaN among float32 lanes one that can be cut to its upper bits.
func (f *function) quietNaNs(v vec) {
	quiet, cut := f.c32(0x00400000), f.c32(0xffc00000)
	if f.isa == avx512 {
		k := f.K()
		f.VCMPPS(U8(3), v, v, k)
		f.VPTERNLOGD(U8(0xa8), cut, f.reg(quiet), k, v)
		return
	}
	unordered, t := f.v(), f.v()
	f.VCMPPS(U8(3), v, v, unordered)
	f.VPOR(quiet, v, t)
	f.VPAND(cut, t, t)
	f.VBLENDVPS(unordered, t, v, v)
}

// interleave returns the lanes a0 b0 a1 b1 and so on as two vectors of float32.
func (f *function) interleave(a, b vec) (vec, vec) {
	if f.isa == avx512 {
		low, high := f.copy(a), f.copy(a)
		f.VPERMT2D(b, f.reg(f.index32(0, 1)), low)
		f.VPERMT2D(b, f.reg(f.index32(8, 1)), high)
		return low, high
	}
	even, odd, low, high := f.v(), f.v(), f.v(), f.v()
	f.VPUNPCKLDQ(b, a, even)
	f.VPUNPCKHDQ(b, a, odd)
	f.VPERM2I128(U8(0x20), odd, even, low)
	f.VPERM2I128(U8(0x31), odd, even, high)
	return low, high
}

// deinterleave is the inverse of interleave.
func (f *function) deinterleave(low, high vec) (vec, vec) {
	a, b := f.v(), f.v()
	if f.isa == avx512 {
		a, b = f.copy(low), f.copy(low)
		f.VPERMT2D(high, f.reg(f.index32(0, 2)), a)
		f.VPERMT2D(high, f.reg(f.index32(1, 2)), b)
		return a, b
	}
	f.VSHUFPS(U8(0x88), high, low, a)
	f.VSHUFPS(U8(0xdd), high, low, b)
	f.VPERMQ(U8(0xd8), a, a)
	f.VPERMQ(U8(0xd8), b, b)
	return a, b
}

// index32 returns the indices of 16 doublewords among two vectors: every stride-th from start on; or, with stride 1, from
// both vectors in turn.
func (f *function) index32(start, stride int) Op {
	var content []byte
	for i := range 16 {
		at := start + i*stride
		if stride == 1 {
			at = start + i/2 + i%2*16
		}
		content = append(content, byte(at), 0, 0, 0)
	}
	return f.constant(content)
}
