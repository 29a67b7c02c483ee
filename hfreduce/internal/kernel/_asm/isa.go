// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vec is a vector register.
type vec = reg.VecVirtual

// isa is an instruction set.
type isa struct {
	name  string // as in the names of files and functions
	bytes int    // of a vector register
}

var (
	avx2   = isa{"AVX2", 32}
	avx512 = isa{"AVX512", 64}
)

// function is one assembly function being written, with what both instruction sets can do under one name.
type function struct {
	*build.Context
	isa
	// consts holds constants by content: registers with AVX-512, memory with AVX2, which has few registers. Those that are
	// asked for during setup are loaded once for the whole function, others where they are used.
	consts map[string]Op
	ready  bool // setup is over

	one vec // float32 lanes of 1, if a codec needs them
}

// v returns a new vector register.
func (f *function) v() vec {
	if f.isa == avx512 {
		return f.ZMM()
	}
	return f.YMM()
}

// h returns a new register of half a vector.
func (f *function) h() vec {
	if f.isa == avx512 {
		return f.YMM()
	}
	return f.XMM()
}

// low returns the lower half of a vector register.
func (f *function) low(v vec) reg.Register {
	if f.isa == avx512 {
		return v.AsY()
	}
	return v.AsX()
}

// high returns the upper half of a vector register.
func (f *function) high(v vec) vec {
	d := f.h()
	if f.isa == avx512 {
		f.VEXTRACTI64X4(U8(1), v, d)
	} else {
		f.VEXTRACTI128(U8(1), v, d)
	}
	return d
}

// join makes one vector of two halves.
func (f *function) join(low, high vec) vec {
	d := f.v()
	if f.isa == avx512 {
		f.VINSERTI64X4(U8(1), high, low.AsZ(), d)
	} else {
		f.VINSERTI128(U8(1), high, low.AsY(), d)
	}
	return d
}

// constant returns a vector that repeats pattern, whose length divides a vector's.
func (f *function) constant(pattern []byte) Op {
	for len(pattern) < 8 {
		pattern = append(pattern, pattern...)
	}
	key := string(pattern)
	if c, ok := f.consts[key]; ok {
		return c
	}
	var c Op
	if f.isa == avx512 && len(pattern) == 8 {
		v := f.v()
		f.VPBROADCASTQ(pool.add(pattern), v)
		c = v
	} else {
		for len(pattern) < f.bytes {
			pattern = append(pattern, pattern...)
		}
		c = pool.add(pattern)
		if f.isa == avx512 {
			c = f.reg(c)
		}
	}
	if !f.ready {
		f.consts[key] = c
	}
	return c
}

// c8, c16, c32 and c64 return vectors that repeat one element.
func (f *function) c8(x uint8) Op   { return f.constant([]byte{x}) }
func (f *function) c16(x uint16) Op { return f.constant(binary.LittleEndian.AppendUint16(nil, x)) }
func (f *function) c32(x uint32) Op { return f.constant(binary.LittleEndian.AppendUint32(nil, x)) }
func (f *function) c64(x uint64) Op { return f.constant(binary.LittleEndian.AppendUint64(nil, x)) }

// reg returns x in a register: itself, or a new one.
func (f *function) reg(x Op) vec {
	if v, ok := x.(vec); ok {
		return v
	}
	return f.copy(x)
}

// copy returns x in a new register.
func (f *function) copy(x Op) vec {
	v := f.v()
	f.move(x, v)
	return v
}

// move copies one vector, any alignment.
func (f *function) move(from, to Op) {
	if f.isa == avx512 {
		f.VMOVDQU64(from, to)
	} else {
		f.VMOVDQU(from, to)
	}
}

// and, or, xor work on whole vectors; a may be memory.
func (f *function) and(a Op, b, d vec) {
	if f.isa == avx512 {
		f.VPANDD(a, b, d)
	} else {
		f.VPAND(a, b, d)
	}
}

func (f *function) or(a Op, b, d vec) {
	if f.isa == avx512 {
		f.VPORD(a, b, d)
	} else {
		f.VPOR(a, b, d)
	}
}

func (f *function) xor(a Op, b, d vec) {
	if f.isa == avx512 {
		f.VPXORD(a, b, d)
	} else {
		f.VPXOR(a, b, d)
	}
}

// zero returns a register of zeros.
func (f *function) zero() vec {
	v := f.v()
	f.xor(v, v, v)
	return v
}

// orMasked ors a & mask into d.
func (f *function) orMasked(a vec, mask Op, d vec) {
	if f.isa == avx512 {
		f.VPTERNLOGD(U8(0xf8), mask, a, d)
		return
	}
	t := f.v()
	f.VPAND(mask, a, t)
	f.VPOR(t, d, d)
}

// takeMasked replaces the bits of mask in d by those of a.
func (f *function) takeMasked(a vec, mask Op, d vec) {
	if f.isa == avx512 {
		f.VPTERNLOGD(U8(0xd8), mask, a, d)
		return
	}
	t := f.v()
	f.VPAND(mask, a, t)
	inverse := f.v()
	f.VPANDN(d, f.reg(mask), inverse)
	f.VPOR(t, inverse, d)
}

// constants is the read-only data of one file.
type constants struct {
	ctx  *build.Context
	seen map[string]Mem
}

// pool holds the constants of the file being written.
var pool *constants

// add returns where content lies.
func (c *constants) add(content []byte) Mem {
	key := string(content)
	m, ok := c.seen[key]
	if !ok {
		m = c.ctx.StaticGlobal(fmt.Sprintf("const%d", len(c.seen)))
		c.ctx.DataAttributes(attr.RODATA | attr.NOPTR)
		for i := 0; i < len(content); i += 8 {
			c.ctx.AddDatum(i, U64(binary.LittleEndian.Uint64(content[i:])))
		}
		c.seen[key] = m
	}
	return m
}
