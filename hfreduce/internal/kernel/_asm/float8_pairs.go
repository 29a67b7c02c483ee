// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// pairs is narrow for sums of float8 numbers by VDPBF16PS, which adds the products of two pairs of bfloat16 numbers to a
// float32. One of each pair comes from a source and the other is 1, so that two sources are added at once, and neither must
// be widened. Like two additions, it rounds after each of them and takes the upper number of a pair first (Intel SDM,
// VDPBF16PS, "Operation"). That it takes subnormal numbers as zero changes nothing: neither the numbers nor the differences
// of their sums are so small.
//
// The accumulators start from -0, to which anything can be added, and where the number of sources is odd, the last of them
// is paired with -0. They are in the order that two rounds of unpacking leave: each holds quarters of all 16 bytes.
//
// Go's assembler does not know the instruction, so that its registers are fixed.
type pairs struct{ narrow }

// pairBlocks is the number of blocks there are registers for.
const pairBlocks = 2

// dotAcc, dotWords and dotOnes are the registers of the instruction.
var (
	dotAcc   = [4 * pairBlocks]reg.VecPhysical{reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23}
	dotWords = reg.Z24
	dotOnes  = reg.Z25
)

func (c pairs) setup(f *function) {
	c.narrow.setup(f)
	f.c32(1 << 31)
	f.VPBROADCASTQ(pool.add([]byte{0x80, 0x3f, 0x80, 0x3f, 0x80, 0x3f, 0x80, 0x3f}), dotOnes)
}

// start sets the accumulators of block b.
func (c pairs) start(f *function, b int) {
	for _, a := range dotAcc[4*b : 4*b+4] {
		f.VMOVDQA64(f.c32(1<<31), a)
	}
}

// none returns a block of -0.
func (c pairs) none(f *function) vec { return f.copy(f.c8(0x80)) }

// add adds a block of two sources to the accumulators of block b.
func (c pairs) add(f *function, b int, first, second vec) {
	t := c.format.(float8)
	for half, unpack := range []func(...Op){f.VPUNPCKLBW, f.VPUNPCKHBW} {
		both := f.v()
		unpack(first, second, both)
		upper, lower := t.words(f, c.narrow, both)
		f.VPUNPCKLBW(upper, lower, dotWords)
		f.dot(dotOnes, dotWords, dotAcc[4*b+2*half])
		f.VPUNPCKHBW(upper, lower, dotWords)
		f.dot(dotOnes, dotWords, dotAcc[4*b+2*half+1])
	}
}

// accumulators returns the accumulators of block b in registers of their own.
func (c pairs) accumulators(f *function, b int) (all []vec) {
	for _, a := range dotAcc[4*b : 4*b+4] {
		v := f.v()
		f.VMOVDQA64(a, v)
		all = append(all, v)
	}
	return all
}

// dot writes VDPBF16PS y, x, acc: EVEX.512.F3.0F38.W0 52 /r.
func (f *function) dot(y, x, acc reg.VecPhysical) {
	r, v, m := uint8(acc.PhysicalIndex()), uint8(x.PhysicalIndex()), uint8(y.PhysicalIndex())
	not := func(number uint8, bit, at int) uint8 { return (^number >> bit & 1) << at }
	const map0F38, pp, length, opcode = 2, 2, 2, 0x52
	code := []uint8{
		0x62,
		not(r, 3, 7) | not(m, 4, 6) | not(m, 3, 5) | not(r, 4, 4) | map0F38,
		(^v&15)<<3 | 1<<2 | pp,
		length<<5 | not(v, 4, 3),
		opcode,
		3<<6 | r&7<<3 | m&7,
	}
	f.Comment("VDPBF16PS " + y.Asm() + ", " + x.Asm() + ", " + acc.Asm())
	for i, b := range code {
		byte1 := &ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(b)}}
		if i == 0 {
			byte1.Inputs, byte1.Outputs, byte1.ISA = []Op{y, x, acc}, []Op{acc}, []string{bf16}
		}
		f.Instruction(byte1)
	}
}

// bf16 is the name of the instruction's extension.
const bf16 = "AVX512BF16"
