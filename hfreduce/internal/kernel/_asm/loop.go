// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// maxSources is kernel.MaxSources.
const maxSources = 10

// The bits of the argument mode, above the number of sources.
const (
	modeSpecial  = 0x100  // any of the next three
	modeStream   = 0x200  // non-temporal stores to dst
	modeSecond   = 0x400  // there is a dst2
	modeStream2  = 0x800  // non-temporal stores to dst2
	modeMultiply = 0x1000 // multiply the sum by the last factor
	modeDivide   = 0x2000 // divide the sum by the last factor
	modeRestore  = 0x4000 // within the kernel: the thread's floating-point environment is not the standard one
)

// side describes the buffers on one side of a kernel, sources or outputs.
type side struct {
	vectors int // that one block of elements fills
	bytes   int // of each vector: one or half a register
	element int // bytes
}

// codec is what distinguishes kernels: how a block of elements becomes accumulators, what is done with them, and back.
type codec interface {
	// sides describes the blocks of the sources and of the outputs.
	sides(f *function) (src, dst side)
	// setup loads constants.
	setup(f *function)
	// decode makes values of a block of a source. Each x is a register that may be overwritten, or memory.
	decode(f *function, x []Op) []Op
	// scale multiplies values with the source's factor, at m.
	scale(f *function, x []Op, m Mem) []Op
	// combine joins values x to the accumulators a.
	combine(f *function, a []vec, x []Op)
	// divide multiplies or divides the accumulators by the factor at m.
	divide(f *function, a []vec, m Mem, multiply bool)
	// encode makes a block of the output of the accumulators, which may be overwritten.
	encode(f *function, a []vec) []vec
}

// spec is one kernel.
type spec struct {
	name    string // without the instruction set
	doc     string
	codec   codec
	unroll  int  // blocks of a step of the main loop
	scaled  bool // each source has a factor
	divides bool // heeds modeMultiply and modeDivide
}

// kernel is a kernel being written.
type kernel struct {
	*function
	spec
	src, dst           side
	srcScale, dstScale uint8 // bytes of either side for each byte of the narrower one
	unit               int   // bytes of a block on the narrower side
	step               int   // bytes of a step of the main loop there

	sources      [maxSources]reg.GPVirtual // ends of the buffers
	dst1, dst2   reg.GPVirtual
	at           reg.GPVirtual // negative distance to the ends, on the narrower side
	mode         reg.GPVirtual
	environment  Mem // on the stack: the MXCSR of the thread and the standard one
	factors      Mem // on the stack: a factor for each source and the one for the sum, 8 bytes each
	labels       int
	aside        []func()      // writes code that stands behind the end, off the usual way
	masks, iotas map[side][]Op // for the last block, with AVX-512
}

const signature = "func(dst, dst2 *byte, srcs **byte, factors *uint64, size, mode int)"

// write writes the kernel s for an instruction set.
//
// A kernel goes through all buffers at once. Its main loop takes a step of several blocks; what remains is taken block by
// block, with AVX-512 the last one in part by masks. The code for the sources is unrolled; after each of them stands an exit
// for calls with that number of sources, a branch that goes the same way throughout a call.
func (s spec) write(f *function) {
	k := &kernel{function: f, spec: s, masks: map[side][]Op{}, iotas: map[side][]Op{}}
	k.Function(s.name + f.name)
	k.Attributes(attr.NOSPLIT)
	k.SignatureExpr(signature)
	k.Pragma("noescape")
	k.Doc(s.name + f.name + " " + s.doc)
	k.geometry()
	k.prologue()
	if k.computesFloats() {
		k.enterEnvironment()
	}
	k.codec.setup(f)
	f.ready = true
	if f.isa == avx512 {
		k.loadIotas()
	}

	k.CMPQ(k.at, I32(-k.step))
	k.JG(LabelRef("rest"))
	k.Label("loop")
	k.block(s.unroll, false)
	k.ADDQ(I32(k.step), k.at)
	k.CMPQ(k.at, I32(-k.step))
	k.JLE(LabelRef("loop"))

	k.Label("rest")
	k.TESTQ(k.at, k.at)
	k.JGE(LabelRef("end"))
	k.Label("blocks")
	if f.isa == avx512 {
		k.loadMasks()
	}
	k.block(1, f.isa == avx512)
	k.ADDQ(I32(k.unit), k.at)
	k.JS(LabelRef("blocks"))

	k.Label("end")
	if k.computesFloats() {
		k.leaveEnvironment()
	}
	k.TESTL(U32(modeStream|modeStream2), k.mode.As32())
	k.JZ(LabelRef("return"))
	k.SFENCE() // non-temporal stores are ordered with nothing else
	k.Label("return")
	k.VZEROUPPER()
	k.RET()
	for _, write := range k.aside {
		write()
	}
}

// geometry computes sizes.
func (k *kernel) geometry() {
	k.src, k.dst = k.codec.sides(k.function)
	narrow := min(k.src.element, k.dst.element)
	k.srcScale, k.dstScale = uint8(k.src.element/narrow), uint8(k.dst.element/narrow)
	k.unit = k.src.vectors * k.src.bytes / int(k.srcScale)
	if k.unit != k.dst.vectors*k.dst.bytes/int(k.dstScale) {
		panic(k.name + ": blocks of the two sides differ")
	}
	k.step = k.unroll * k.unit
	if k.step > 256 {
		panic(k.name + ": masks count in bytes")
	}
}

// prologue loads the arguments.
func (k *kernel) prologue() {
	size, array := k.GP64(), k.GP64()
	k.Load(k.Param("size"), size)
	k.Load(k.Param("srcs"), array)
	for i := range k.sources {
		k.sources[i] = k.end(Mem{Base: array, Disp: 8 * i}, size, k.srcScale)
	}
	dst, err := k.Param("dst").Resolve()
	check(err)
	k.dst1 = k.end(dst.Addr, size, k.dstScale)
	dst, err = k.Param("dst2").Resolve()
	check(err)
	k.dst2 = k.end(dst.Addr, size, k.dstScale)
	if k.scaled || k.divides {
		k.copyFactors()
	}
	k.mode = k.GP64()
	k.Load(k.Param("mode"), k.mode)
	k.at = size
	k.NEGQ(k.at)
}

// end returns the end of the buffer whose address is at m.
func (k *kernel) end(m Mem, size reg.GPVirtual, scale uint8) reg.GPVirtual {
	r := k.GP64()
	k.MOVQ(m, r)
	k.LEAQ(Mem{Base: r, Index: size, Scale: scale}, r)
	return r
}

// copyFactors puts the factors on the stack, where they need no register.
func (k *kernel) copyFactors() {
	k.factors = k.AllocLocal(8 * (maxSources + 1))
	from, t := k.GP64(), k.GP64()
	k.Load(k.Param("factors"), from)
	first := maxSources
	if k.scaled {
		first = 0
	}
	for i := first; i <= maxSources; i++ {
		k.MOVQ(Mem{Base: from, Disp: 8 * i}, t)
		k.MOVQ(t, k.factors.Offset(8*i))
	}
}

// label returns a new name.
func (k *kernel) label(what string) string {
	k.labels++
	return fmt.Sprintf("%s%d", what, k.labels)
}

// block writes the way of some blocks from all sources to the outputs.
func (k *kernel) block(blocks int, masked bool) {
	var acc [][]vec
	if c, ok := k.codec.(pairs); ok {
		acc = k.accumulatePairs(c, blocks, masked)
	} else {
		acc = k.accumulate(blocks, masked)
	}
	if k.divides {
		k.divide(acc)
	}
	out := make([][]vec, blocks)
	for b := range acc {
		out[b] = k.codec.encode(k.function, acc[b])
	}
	k.write(out, masked)
}

// accumulate writes the way from all sources to the accumulators of some blocks.
func (k *kernel) accumulate(blocks int, masked bool) [][]vec {
	acc := make([][]vec, blocks)
	for b := range acc {
		for _, x := range k.read(0, b, masked) {
			acc[b] = append(acc[b], k.reg(x))
		}
	}
	combined := k.label("combined")
	for i := 1; i < maxSources; i++ {
		k.CMPB(k.mode.As8L(), U8(i))
		k.JE(LabelRef(combined))
		k.fold(acc, i, masked)
	}
	k.Label(combined)
	return acc
}

// accumulatePairs is accumulate with two sources at a time.
func (k *kernel) accumulatePairs(c pairs, blocks int, masked bool) [][]vec {
	acc := make([][]vec, blocks)
	for b := range acc {
		acc[b] = c.start(k.function)
	}
	combined := k.label("combined")
	for i := 0; i < maxSources; i += 2 {
		if i > 0 {
			k.CMPB(k.mode.As8L(), U8(i))
			k.JLE(LabelRef(combined))
		}
		var first, second []vec
		for b := range blocks {
			first, second = append(first, k.raw(i, b, masked)), append(second, c.none(k.function))
		}
		alone := k.label("alone")
		k.CMPB(k.mode.As8L(), U8(i+1))
		k.JE(LabelRef(alone))
		for b := range blocks {
			k.move(k.raw(i+1, b, masked), second[b])
		}
		k.Label(alone)
		for b := range blocks {
			c.add(k.function, acc[b], first[b], second[b])
		}
	}
	k.Label(combined)
	return acc
}

// fold combines some blocks of a source with the accumulators. With registers enough, all are decoded first, which keeps
// operations of a kind together.
func (k *kernel) fold(acc [][]vec, source int, masked bool) {
	if k.isa == avx2 || len(acc[0]) > 1 {
		for b := range acc {
			k.codec.combine(k.function, acc[b], k.read(source, b, masked))
		}
		return
	}
	var x [][]Op
	for b := range acc {
		x = append(x, k.read(source, b, masked))
	}
	for b := range acc {
		k.codec.combine(k.function, acc[b], x[b])
	}
}

// read returns the values of block b of a source.
func (k *kernel) read(source, b int, masked bool) []Op {
	x := make([]Op, k.src.vectors)
	for v := range x {
		x[v] = k.load(source, b, v, masked)
	}
	values := k.codec.decode(k.function, x)
	if k.scaled {
		values = k.codec.scale(k.function, values, k.factors.Offset(8*source))
	}
	return values
}

// raw returns block b of a source of one vector a block, in a register.
func (k *kernel) raw(source, b int, masked bool) vec { return k.reg(k.load(source, b, 0, masked)) }

// load returns vector v of block b of a source: where it lies or, of the last block, in a register.
func (k *kernel) load(source, b, v int, masked bool) Op {
	m := k.address(k.sources[source], k.srcScale, (b*k.src.vectors+v)*k.src.bytes)
	if !masked {
		return m
	}
	t := k.v()
	if k.src.bytes < k.bytes {
		t = k.h()
	}
	if k.wide(k.src) {
		k.VMOVDQU32_Z(m, k.masks[k.src][v], t)
	} else {
		k.VMOVDQU8_Z(m, k.masks[k.src][v], t)
	}
	return t
}

func (k *kernel) address(end reg.GPVirtual, scale uint8, offset int) Mem {
	return Mem{Base: end, Index: k.at, Scale: scale, Disp: offset}
}

// divide writes a branch to the multiplication and the division.
func (k *kernel) divide(acc [][]vec) {
	scale, done := k.label("scale"), k.label("scaled")
	k.TESTL(U32(modeMultiply|modeDivide), k.mode.As32())
	k.JNZ(LabelRef(scale))
	k.Label(done)
	at := make([][]vec, len(acc)) // as encode may use other registers
	for b := range acc {
		at[b] = slices.Clone(acc[b])
	}
	k.aside = append(k.aside, func() { k.writeDivide(at, scale, done) })
}

// writeDivide writes the multiplication and the division.
func (k *kernel) writeDivide(acc [][]vec, scale, done string) {
	divide := k.label("divide")
	k.Label(scale)
	k.TESTL(U32(modeDivide), k.mode.As32())
	k.JNZ(LabelRef(divide))
	for b := range acc {
		k.codec.divide(k.function, acc[b], k.factors.Offset(8*maxSources), true)
	}
	k.JMP(LabelRef(done))
	k.Label(divide)
	for b := range acc {
		k.codec.divide(k.function, acc[b], k.factors.Offset(8*maxSources), false)
	}
	k.JMP(LabelRef(done))
}
