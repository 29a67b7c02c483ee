// SPDX-License-Identifier: Apache-2.0

package main

import (
	. "github.com/mmcloughlin/avo/operand"
)

// pairs is narrow for sums of float8 numbers by VDPBF16PS, which adds the products of two pairs of bfloat16 numbers to a
// float32. One of each pair comes from a source and the other is 1, so that two sources are added at once, and neither must
// be widened. Like two additions, it rounds after each of them and takes the upper number of a pair first (Intel SDM,
// VDPBF16PS, "Operation"). That it takes subnormal numbers as zero changes nothing: neither the numbers nor the differences
// of their sums are so small.
//
// The accumulators start from -0, to which anything can be added, and where the number of sources is odd, the last of them
// is paired with -0. They are in the order that two rounds of unpacking leave: each holds quarters of all 16 bytes.
type pairs struct{ narrow }

func (c pairs) setup(f *function) {
	c.narrow.setup(f)
	c.ones(f)
	f.c32(1 << 31)
}

// ones returns a vector of bfloat16 ones.
func (pairs) ones(f *function) vec { return f.reg(f.c16(0x3f80)) }

// start returns the accumulators of a block.
func (c pairs) start(f *function) (all []vec) {
	for range 4 {
		all = append(all, f.copy(f.c32(1<<31)))
	}
	return all
}

// none returns a block of -0.
func (c pairs) none(f *function) vec { return f.copy(f.c8(0x80)) }

// add adds a block of two sources to the accumulators.
func (c pairs) add(f *function, acc []vec, first, second vec) {
	t := c.format.(float8)
	for half, unpack := range []func(...Op){f.VPUNPCKLBW, f.VPUNPCKHBW} {
		both := f.v()
		unpack(first, second, both)
		upper, lower := t.words(f, c.narrow, both)
		for i, unpack := range []func(...Op){f.VPUNPCKLBW, f.VPUNPCKHBW} {
			words := f.v()
			unpack(upper, lower, words)
			f.dot(c.ones(f), words, acc[2*half+i])
		}
	}
}
