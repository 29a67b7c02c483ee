// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

func nothing() error { return nil }

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
		helpers := newTeam(rapid.IntRange(0, 5).Draw(t, "helpers"), n, nothing)
		defer helpers.end()
		for range 2 { // the helpers are there the second time
			clear(got)
			if err := helpers.add(&spec, got, srcs, scales); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes of %v with %d helpers differ from one addition", size, spec.DType, len(helpers.helpers))
			}
		}
	})
}

// TestTeamTends: between blocks a rank looks after what else there is, until that fails; then the addition ends, and the next
// one is whole again.
func TestTeamTends(t *testing.T) {
	defer goleak.VerifyNone(t)
	failure := errors.New("the device is gone")
	tended, failing := 0, 0
	for _, helpers := range []int{0, 3} {
		team := newTeam(helpers, 1, func() error {
			if tended++; tended == failing {
				return failure
			}
			return nil
		})
		team.bytes = minPart
		src, dst := make([]byte, 16*minPart), make([]byte, 16*minPart)
		for i := range src {
			src[i] = byte(i % 251)
		}
		spec := kernel.Spec{DType: kernel.Int8}
		blocks := len(dst) / (minPart / 2)
		for _, failing = range []int{0, 1, 5, 0} {
			tended = 0
			clear(dst)
			err := team.add(&spec, dst, [][]byte{src}, nil)
			switch {
			case tended >= blocks:
				t.Errorf("with %d helpers the rank looked up %d times between %d blocks", helpers, tended, blocks)
			case err == nil && !bytes.Equal(dst, src):
				t.Errorf("with %d helpers the sum is wrong", helpers)
			case helpers == 0 && err == nil && tended != blocks-1:
				t.Errorf("the rank looked up %d times between %d blocks", tended, blocks)
			case (err != nil) != (failing > 0 && tended == failing):
				t.Errorf("with %d helpers: %v after %d looks, of which look %d fails", helpers, err, tended, failing)
			case err != nil && helpers == 0 && bytes.Equal(dst, src):
				t.Error("the addition went on")
			}
		}
		team.end()
	}
}

// TestTeamTakesCallsBack: with one processor no helper runs before the rank has added everything. It does not wait for them,
// and what they find when they run at last is the addition of that moment, or nothing.
func TestTeamTakesCallsBack(t *testing.T) {
	defer goleak.VerifyNone(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	team := newTeam(3, 1, nothing)
	defer team.end()
	spec := kernel.Spec{DType: kernel.Int8}
	src := make([]byte, 8*minPart)
	early := 0
	for i := range 100 {
		dst := make([]byte, len(src))
		for at := range src {
			src[at] = byte(i)
		}
		if err := team.add(&spec, dst, [][]byte{src}, nil); err != nil || !bytes.Equal(dst, src) {
			t.Fatalf("addition %d: wrong, or error %v", i, err)
		}
		for _, h := range team.helpers {
			if len(h.wake) > 0 {
				early++
			}
		}
		if i%3 == 0 {
			runtime.Gosched()
		}
	}
	if early == 0 {
		t.Error("no call was taken back before it had reached its helper")
	}
}

func TestTeamAllocatesNothing(t *testing.T) {
	helpers := newTeam(2, 2, nothing)
	defer helpers.end()
	spec := kernel.Spec{DType: kernel.Float32}
	a, b, dst := make([]byte, 4*minPart), make([]byte, 4*minPart), make([]byte, 4*minPart)
	srcs := [][]byte{a, b}
	_ = helpers.add(&spec, dst, srcs, nil)
	if n := testing.AllocsPerRun(50, func() { _ = helpers.add(&spec, dst, srcs, nil) }); n != 0 {
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
			helpers := newTeam(threads-1, 8, nothing)
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
				_ = helpers.add(&spec, dst[at:at+size], part, nil)
			}
		})
	}
}
