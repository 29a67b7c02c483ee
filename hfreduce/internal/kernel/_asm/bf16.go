// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Instructions of AVX512_BF16, which Go's assembler does not know. They go through register allocation like all others, then
// encodeUnknown puts their bytes in their place.

// bf16 is the name of the extension.
const bf16 = "AVX512BF16"

// encodings holds the prefix (EVEX.pp: 2 is F3, 3 is F2) and the opcode in map 0F38 of each instruction, by name.
var encodings = map[string]struct{ pp, opcode uint8 }{
	"VDPBF16PS":      {2, 0x52},
	"VCVTNE2PS2BF16": {3, 0x72},
}

// dot adds to every float32 of acc the products of two pairs of bfloat16 numbers, the upper pair first.
func (f *function) dot(y, x Op, acc vec) {
	f.Instruction(&ir.Instruction{Opcode: "VDPBF16PS", Operands: []Op{y, x, acc}, Inputs: []Op{y, x, acc}, Outputs: []Op{acc}, ISA: []string{bf16}})
}

// roundPair rounds the float32 of low and high to bfloat16, in the lower and the upper half of the result. It takes subnormal
// numbers as zero.
func (f *function) roundPair(low, high Op) vec {
	d := f.v()
	f.Instruction(&ir.Instruction{Opcode: "VCVTNE2PS2BF16", Operands: []Op{low, high, d}, Inputs: []Op{low, high}, Outputs: []Op{d}, ISA: []string{bf16}})
	return d
}

// encodeUnknown replaces what the assembler does not know by its bytes.
func encodeUnknown(fn *ir.Function) error {
	var nodes []ir.Node
	for _, node := range fn.Nodes {
		i, ok := node.(*ir.Instruction)
		if !ok || encodings[i.Opcode].opcode == 0 {
			nodes = append(nodes, node)
			continue
		}
		var number [3]uint8
		text := i.Opcode
		for j, op := range i.Operands {
			r, ok := op.(reg.Physical)
			if !ok || r.Size() != 64 {
				return fmt.Errorf("%s: operand %d is no register of 512 bits", i.Opcode, j)
			}
			number[j] = uint8(r.PhysicalIndex())
			text += [...]string{" ", ", ", ", "}[j] + r.Asm()
		}
		nodes = append(nodes, ir.NewComment(text))
		for _, b := range evex(i.Opcode, number[0], number[1], number[2]) {
			nodes = append(nodes, &ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(b)}})
		}
	}
	fn.Nodes = nodes
	return nil
}

// evex returns an instruction of 512 bits with three registers: Intel SDM, volume 2, "EVEX Prefix". m is the first operand in
// Go's order, the last one in Intel's; v is the second one, d is the destination.
func evex(name string, m, v, d uint8) []uint8 {
	const map0F38, length512, registers = 2, 2, 3
	not := func(number uint8, bit, at int) uint8 { return (^number >> bit & 1) << at }
	e := encodings[name]
	return []uint8{
		0x62,
		not(d, 3, 7) | not(m, 4, 6) | not(m, 3, 5) | not(d, 4, 4) | map0F38,
		(^v&15)<<3 | 1<<2 | e.pp,
		length512<<5 | not(v, 4, 3),
		e.opcode,
		registers<<6 | d&7<<3 | m&7,
	}
}
