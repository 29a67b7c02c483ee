// SPDX-License-Identifier: Apache-2.0

//go:build exhaustive

package kernel

import (
	"math"
	"testing"
)

// TestNarrowAllFloat32 rounds every float32, in some minutes: go test -tags exhaustive -run AllFloat32. As they ascend so do
// the expected codes, which spares the reference its search.
func TestNarrowAllFloat32(t *testing.T) {
	for _, c := range conversions {
		t.Run(c.t.String(), func(t *testing.T) {
			f := formats[c.t]
			code, negative := uint32(0), uint32(1)<<(f.expBits+f.manBits)
			middle := (f.values[0] + f.values[1]) / 2
			for b := uint32(0); b < 0x7f800000; b++ {
				v := math.Float32frombits(b)
				for code < f.overflow() && (float64(v) > middle || float64(v) == middle && code%2 == 1) {
					code++
					if code < f.overflow() {
						middle = (f.values[code] + f.values[code+1]) / 2
					}
				}
				if plus, minus := c.narrow(v), c.narrow(-v); plus != code || minus != code|negative {
					t.Fatalf("%v and its negative become %#x and %#x, want %#x", v, plus, minus, code)
				}
			}
			for b := uint32(0x7f800000); b < 1<<31; b++ {
				checkNarrow(t, c.t, c.narrow, math.Float32frombits(b))
				checkNarrow(t, c.t, c.narrow, math.Float32frombits(b|1<<31))
			}
		})
	}
}

// TestReduceAllFloat32 has every backend round every float32, as single sources and as sums of two.
func TestReduceAllFloat32(t *testing.T) {
	eachConversion(t, func(t *testing.T, b Backend, c conversion) {
		block := make([]float32, 1<<16)
		for high := range uint32(1) << 16 {
			for low := range block {
				block[low] = math.Float32frombits(high<<16 | uint32(low))
			}
			if err := c.checkBlock(b, block); err != nil {
				t.Fatal(err)
			}
		}
	})
}
