// SPDX-License-Identifier: Apache-2.0

package kernel

import "golang.org/x/sys/cpu"

// The paired kernels count on VDPBF16PS rounding after each of its two additions and taking the upper number first, as
// Intel's manual describes it and Zen 4 does it. AMD's manual leaves it open, so the processor is asked.

// addsInSequence reports whether VDPBF16PS is there and does what the paired kernels count on. Set once, read only.
var addsInSequence = cpu.X86.HasAVX512BF16 && cpu.X86.HasAVX512VBMI && AVX512.Available() && probeSequence()

// probeSequence adds four float8 numbers of which the last two go into one instruction. Its first sum is 2^-16 unless there
// is a rounding before the fourth number, the second one is 0 if the fourth number comes before the third.
func probeSequence() bool {
	const (
		zero   = 0x00
		tiny   = 0x01 // 2^-16, beyond the last place of the largest
		large  = 0x7b // 57344
		minus  = 0x80
		second = 1 // index of the second sum
	)
	sources := [4][2]byte{{tiny, minus | large}, {zero, zero}, {large, large}, {minus | large, tiny}}
	var from [MaxSources]*byte
	for j := range sources {
		from[j] = &sources[j][0]
	}
	var sums [2]byte
	callAVX512(pairedFloat8E5M2ID, &sums[0], nil, &from[0], &noFactors[0], len(sums), len(sources))
	return sums[0] == zero && sums[second] == tiny
}
