// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestDivider compares with the division instruction: small numbers exhaustively, others at random and around multiples of
// the divisor, where a multiplier that is off by one shows.
func TestDivider(t *testing.T) {
	check := func(x, d uint64) {
		by := newDivider(d)
		if got := by.divide(int64(x), true); got != x/d {
			t.Fatalf("%d / %d = %d, want %d", x, d, got, x/d)
		}
		if d > math.MaxInt64 {
			return
		}
		if got, want := int64(by.divide(int64(x), false)), int64(x)/int64(d); got != want {
			t.Fatalf("%d / %d = %d, want %d", int64(x), d, got, want)
		}
	}
	for d := uint64(1); d < 300; d++ {
		for x := range uint64(300) {
			check(x, d)
			check(-x, d)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	any64 := func() uint64 { return random.Uint64() >> random.IntN(64) }
	for range 200_000 {
		d := max(any64(), 1)
		x := any64()
		for _, x := range []uint64{x, x / d * d, x/d*d - 1, math.MaxUint64 - x, math.MaxUint64 / d * d, math.MaxInt64, 1 << 63} {
			check(x, d)
		}
	}
}
