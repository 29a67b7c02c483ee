// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// TestTeamAddsTheSame: whatever the size, type and number of helpers, the bits are those of one addition.
func TestTeamAddsTheSame(t *testing.T) {
	defer goleak.VerifyNone(t)
	rng := rand.NewChaCha8([32]byte{1})
	rapid.Check(t, func(t *rapid.T) {
		spec := kernel.Spec{
			DType: rapid.SampledFrom([]kernel.DType{kernel.Float32, kernel.BFloat16, kernel.Int8, kernel.Float64}).Draw(t, "type"),
			Op:    rapid.SampledFrom([]kernel.Op{kernel.Sum, kernel.Max}).Draw(t, "op"),
		}
		n := rapid.IntRange(1, 10).Draw(t, "sources")
		size := rapid.IntRange(0, 5*minPart/8).Draw(t, "elements") * spec.DType.Size()
		srcs := make([][]byte, n)
		for i := range srcs {
			srcs[i] = make([]byte, size)
			_, _ = rng.Read(srcs[i])
		}
		var scales []float64
		if spec.Op == kernel.Sum && rapid.Bool().Draw(t, "scaled") {
			for i := range srcs {
				scales = append(scales, float64(i)+0.5)
			}
		}
		want, got := make([]byte, size), make([]byte, size)
		spec.Reduce(want, nil, srcs, scales)
		helpers := newTeam(rapid.IntRange(1, 5).Draw(t, "helpers"), n)
		defer helpers.end()
		for range 2 { // the helpers are there the second time
			clear(got)
			helpers.add(&spec, got, srcs, scales)
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes of %v with %d helpers differ from one addition", size, spec.DType, len(helpers.parts)-1)
			}
		}
	})
}

func TestTeamAllocatesNothing(t *testing.T) {
	helpers := newTeam(2, 2)
	defer helpers.end()
	spec := kernel.Spec{DType: kernel.Float32}
	a, b, dst := make([]byte, 4*minPart), make([]byte, 4*minPart), make([]byte, 4*minPart)
	srcs := [][]byte{a, b}
	helpers.add(&spec, dst, srcs, nil)
	if n := testing.AllocsPerRun(50, func() { helpers.add(&spec, dst, srcs, nil) }); n != 0 {
		t.Errorf("an addition allocates %v times", n)
	}
}

func BenchmarkTeam(b *testing.B) {
	spec := kernel.Spec{DType: kernel.BFloat16}
	for _, threads := range []int{1, 2, 4} {
		if threads > runtime.GOMAXPROCS(0) {
			break
		}
		b.Run(string(rune('0'+threads)), func(b *testing.B) {
			helpers := newTeam(threads-1, 8)
			defer helpers.end()
			srcs := make([][]byte, 8)
			for i := range srcs {
				srcs[i] = make([]byte, 64<<20)
			}
			dst, part := make([]byte, 64<<20), make([][]byte, 8)
			const size = 1 << 20
			b.SetBytes(size)
			for i := range b.N {
				at := i % 64 * size
				for s := range srcs {
					part[s] = srcs[s][at : at+size]
				}
				helpers.add(&spec, dst[at:at+size], part, nil)
			}
		})
	}
}
