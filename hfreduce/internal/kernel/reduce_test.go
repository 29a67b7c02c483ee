// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// eachBackend runs a test body on every backend this machine has.
func eachBackend(t *testing.T, body func(t *testing.T, b backend)) {
	for i := range backendNames {
		b := backend(i)
		t.Run(b.String(), func(t *testing.T) {
			if !b.available() {
				testreq.Missing(t, b.String(), "this machine cannot run these kernels")
			}
			body(t, b)
		})
	}
}

// eachSpec runs a test body for every element type and operator.
func eachSpec(t *testing.T, body func(t *testing.T, b backend, s Spec)) {
	eachBackend(t, func(t *testing.T, b backend) {
		for d := range dtypes {
			for o := range opNames {
				s := Spec{DType: DType(d), Op: Op(o)}
				t.Run(fmt.Sprintf("%s/%s", s.DType, s.Op), func(t *testing.T) { body(t, b, s) })
			}
		}
	})
}

var scaleValues = []float64{1, -1, 0.5, 3, -2.75, 1.0 / 3, 0.1, 1e-30, 1e30, 1e300, math.Copysign(0, -1), 300, 1 << 40, -1 << 63, 1 << 63, math.Inf(1), math.NaN()}

func drawReduction(t *rapid.T, s Spec) reduction {
	n := rapid.IntRange(1, 12).Draw(t, "sources")
	r := reduction{spec: s, count: rapid.IntRange(0, 600).Draw(t, "count")}
	if s.Op == Sum {
		r.spec.Divisor = rapid.SampledFrom([]int{0, 1, 2, 3, 7, 8, 24, 127, 128, 200, 1000, 1<<24 + 1, math.MaxInt}).Draw(t, "divisor")
	}
	if rapid.Bool().Draw(t, "scaled") {
		r.scales = rapid.SliceOfN(rapid.SampledFrom(scaleValues), n, n).Draw(t, "scales")
	}
	r.dst = rapid.IntRange(own, n-1).Draw(t, "dst")
	r.dst2 = rapid.IntRange(none, n-1).Draw(t, "dst2")
	r.offsets = rapid.SliceOfN(rapid.IntRange(0, 7), n+2, n+2).Draw(t, "offsets")
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	mode := rapid.IntRange(0, 3).Draw(t, "mode")
	for range n {
		r.srcs = append(r.srcs, fill(random, s.DType, r.count, mode))
	}
	return r
}

func TestReduceAgainstReference(t *testing.T) {
	eachSpec(t, func(t *testing.T, b backend, s Spec) {
		rapid.Check(t, func(t *rapid.T) {
			if err := drawReduction(t, s).check(b); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// TestReduceLong crosses the borders of all blocks, with every number of sources that takes another way.
func TestReduceLong(t *testing.T) {
	eachSpec(t, func(t *testing.T, b backend, s Spec) {
		for _, n := range []int{2, 3, 4, 5, 7, 8, MaxSources + 1} {
			random := rand.New(rand.NewPCG(uint64(n), uint64(s.DType)))
			// One border of 4096 bytes at least, and of 512 elements.
			r := reduction{spec: s, count: 4096/s.DType.Size() + 517, dst: n - 1, dst2: own, offsets: make([]int, n+2)}
			for range n {
				r.srcs = append(r.srcs, fill(random, s.DType, r.count, 1))
			}
			if n%3 == 0 {
				r.scales = append(r.scales, scaleValues[:n]...)
			}
			if err := r.check(b); err != nil {
				t.Fatalf("%d sources: %v", n, err)
			}
		}
	})
}

// TestReduceShort takes every length up to some more than a vector register, each at every misalignment.
func TestReduceShort(t *testing.T) {
	eachSpec(t, func(t *testing.T, b backend, s Spec) {
		for count := range 70 {
			n := 2 + count%3
			r := reduction{spec: s, count: count, dst: own, dst2: none, offsets: []int{count % 8, 3, 1, 7, 5, 2}[:n+2]}
			for j := range n {
				r.srcs = append(r.srcs, fill(rand.New(rand.NewPCG(uint64(count), uint64(j))), s.DType, count, 3))
			}
			if err := r.check(b); err != nil {
				t.Fatalf("%d elements: %v", count, err)
			}
		}
	})
}

// TestReduceAllFloat8Pairs combines every two values of both float8 types.
func TestReduceAllFloat8Pairs(t *testing.T) {
	eachSpec(t, func(t *testing.T, b backend, s Spec) {
		if s.DType != Float8E4M3 && s.DType != Float8E5M2 {
			return
		}
		x, y := make([]byte, 1<<16), make([]byte, 1<<16)
		for i := range x {
			x[i], y[i] = byte(i), byte(i>>8)
		}
		r := reduction{spec: s, count: 1 << 16, srcs: [][]byte{x, y}, dst: own, dst2: none, offsets: make([]int, 4)}
		if err := r.check(b); err != nil {
			t.Fatal(err)
		}
	})
}

// TestReduceRoundsOnce adds 1 to 256 a hundred times: rounded to bfloat16 or less after each, the sum would stay at 256.
func TestReduceRoundsOnce(t *testing.T) {
	eachBackend(t, func(t *testing.T, b backend) {
		for _, c := range conversions {
			start, one, size := c.narrow(256), c.narrow(1), c.t.Size()
			var srcs [][]byte
			for j := range 101 {
				code := one
				if j == 0 {
					code = start
				}
				srcs = append(srcs, []byte{byte(code), byte(code >> 8)}[:size])
			}
			dst := make([]byte, size)
			Spec{DType: c.t}.reduceWith(b, dst, nil, srcs, nil)
			if got, want := element(c.t, dst, 0), uint64(formats[c.t].encode(356)); got != want {
				t.Errorf("%s: 256 and 100 times 1 give %#x, want %#x", c.t, got, want)
			}
		}
	})
}
