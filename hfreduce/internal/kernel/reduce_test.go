// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// eachBackend runs a test body on every backend this machine has.
func eachBackend(t *testing.T, body func(t *testing.T, b Backend)) {
	for i := range backendNames {
		b := Backend(i)
		t.Run(b.String(), func(t *testing.T) {
			if !b.Available() {
				testreq.Missing(t, b.String(), "this machine cannot run these kernels")
			}
			body(t, b)
		})
	}
}

// eachSpec runs a test body for every element type and operator.
func eachSpec(t *testing.T, body func(t *testing.T, b Backend, s Spec)) {
	eachBackend(t, func(t *testing.T, b Backend) {
		for d := range dtypes {
			for o := range opNames {
				s := Spec{DType: DType(d), Op: Op(o)}
				t.Run(fmt.Sprintf("%s/%s", s.DType, s.Op), func(t *testing.T) { body(t, b, s) })
			}
		}
	})
}

func TestReduceAgainstReference(t *testing.T) {
	eachSpec(t, func(t *testing.T, b Backend, s Spec) {
		rapid.Check(t, func(t *rapid.T) {
			if err := drawReduction(t, s).check(b); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// TestReduceLong crosses the borders of all blocks, with every number of sources that takes another way.
func TestReduceLong(t *testing.T) {
	eachSpec(t, func(t *testing.T, b Backend, s Spec) {
		for k, n := range []int{2, 3, 4, 5, 7, 8, MaxSources + 1} {
			random := rand.New(rand.NewPCG(uint64(n), uint64(s.DType)))
			s := variant(s, n, random.IntN(variants))
			where := hosts(s, n)
			// One border of 4096 bytes at least, and of 512 elements.
			r := reduction{spec: s, count: 4096/s.DType.Size() + 517, dst: where[len(where)-1], dst2: own, offsets: make([]int, n+2)}
			for j := range n {
				r.srcs = append(r.srcs, fillSource(random, s, j, n, r.count, 1))
			}
			if k%3 == 1 {
				r.scales = append(r.scales, scaleValues[:n]...)
			}
			if err := r.check(b); err != nil {
				t.Fatalf("%+v of %d sources: %v", s, n, err)
			}
		}
	})
}

// TestReduceShort takes every length up to some more than a vector register, each at another misalignment.
func TestReduceShort(t *testing.T) {
	eachSpec(t, func(t *testing.T, b Backend, s Spec) {
		for count := range 70 {
			n := 1 + count%4
			s := variant(s, n, count*5)
			r := reduction{spec: s, count: count, dst: own, dst2: none, offsets: []int{count % lineBytes, 3, 17, 63, 37, 2}[:n+2]}
			for j := range n {
				random := rand.New(rand.NewPCG(uint64(count), uint64(j)))
				r.srcs = append(r.srcs, fillSource(random, s, j, n, count, 3))
			}
			if err := r.check(b); err != nil {
				t.Fatalf("%+v of %d elements: %v", s, count, err)
			}
		}
	})
}

// TestReduceAllFloat8Pairs combines every two values of both float8 types, rounded and not.
func TestReduceAllFloat8Pairs(t *testing.T) {
	eachSpec(t, func(t *testing.T, b Backend, s Spec) {
		if s.DType != Float8E4M3 && s.DType != Float8E5M2 {
			return
		}
		x, y := make([]byte, 1<<16), make([]byte, 1<<16)
		for i := range x {
			x[i], y[i] = byte(i), byte(i>>8)
		}
		r := reduction{spec: s, count: 1 << 16, srcs: [][]byte{x, y}, dst: own, dst2: none, offsets: make([]int, 4)}
		for _, r.spec.Wide = range []bool{false, true} {
			if err := r.check(b); err != nil {
				t.Fatalf("wide %v: %v", r.spec.Wide, err)
			}
		}
	})
}

// TestReduceRoundsOnce adds 1 to 256 a hundred times: rounded to bfloat16 or less after each, the sum would stay at 256.
func TestReduceRoundsOnce(t *testing.T) {
	eachBackend(t, func(t *testing.T, b Backend) {
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
			Spec{DType: c.t}.ReduceOn(b, dst, nil, srcs, nil)
			if got, want := element(c.t, dst, 0), uint64(formats[c.t].encode(356)); got != want {
				t.Errorf("%s: 256 and 100 times 1 give %#x, want %#x", c.t, got, want)
			}
		}
	})
}
