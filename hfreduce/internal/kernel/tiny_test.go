// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"math/rand/v2"
	"testing"
)

// TestReduceTiny: Reduce gives the bits of the generic backend for every size around the border of the short way, out of
// place and into any of the sources.
func TestReduceTiny(t *testing.T) {
	eachTiny(t, func(t *testing.T, s Spec, srcs [][]byte) {
		n := len(srcs[0])
		want := make([]byte, n)
		s.ReduceOn(Generic, want, nil, srcs, nil)
		for j := -1; j < len(srcs); j++ {
			in, got := clone(srcs), make([]byte, n)
			if j >= 0 {
				got = in[j]
			}
			s.Reduce(got, nil, in, nil)
			compareTiny(t, s, got, want)
		}
	})
}

// eachTiny runs body for sums and others of every type, with and without a divisor.
func eachTiny(t *testing.T, body func(t *testing.T, s Spec, srcs [][]byte)) {
	random := rand.New(rand.NewPCG(1, 2))
	for d := range dtypes {
		for o := range opNames {
			for _, divisor := range []int{0, 3} {
				s := Spec{DType: DType(d), Op: Op(o), Divisor: divisor}
				if divisor > 0 && s.Op != Sum {
					continue
				}
				for count := range tinyBytes/s.DType.Size() + 3 {
					for n := 1; n <= MaxSources+1; n++ {
						var srcs [][]byte
						for range n {
							srcs = append(srcs, fill(random, s.DType, count, 2))
						}
						body(t, s, srcs)
					}
				}
			}
		}
	}
}

func clone(srcs [][]byte) [][]byte {
	out := make([][]byte, len(srcs))
	for j := range srcs {
		out[j] = append([]byte{}, srcs[j]...)
	}
	return out
}

func compareTiny(t *testing.T, s Spec, got, want []byte) {
	t.Helper()
	for i := range len(got) / s.DType.Size() {
		if x, y := element(s.DType, got, i), element(s.DType, want, i); !sameElement(s.DType, x, y) {
			t.Fatalf("%+v: element %d of %d bytes is %#x, want %#x", s, i, len(got), x, y)
		}
	}
}
