// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/cpu"
)

// TestReduceOnOtherProcessors changes what this processor says of itself: AVX-512 kernels that it would pass over must run,
// too, and those that it has must not run where others lack them.
func TestReduceOnOtherProcessors(t *testing.T) {
	x := &cpu.X86
	defer func(vbmi, bf16, vnni, sequence bool) {
		x.HasAVX512VBMI, x.HasAVX512BF16, x.HasAVXVNNI, addsInSequence = vbmi, bf16, vnni, sequence
	}(x.HasAVX512VBMI, x.HasAVX512BF16, x.HasAVXVNNI, addsInSequence)
	vbmi, paired := x.HasAVX512VBMI, addsInSequence
	for _, p := range []struct {
		name             string
		vbmi, bf16, vnni bool
		types            []DType // to which that matters
	}{
		{"the first with AVX-512", false, false, false, []DType{Float8E4M3, Float8E5M2}},
		{"no bfloat16", vbmi, false, true, []DType{Float8E4M3, Float8E5M2}},
		{"halves vectors", vbmi, true, false, []DType{Float16, Float32}},
		{"wide all through", vbmi, true, true, []DType{Float16}},
	} {
		t.Run(p.name, func(t *testing.T) {
			x.HasAVX512VBMI, x.HasAVX512BF16, x.HasAVXVNNI, addsInSequence = p.vbmi, p.bf16, p.vnni, p.bf16 && paired
			eachSpec(t, func(t *testing.T, b Backend, s Spec) {
				if b == AVX512 && slices.Contains(p.types, s.DType) {
					checkVariants(t, b, s)
				}
			})
		})
	}
}

// checkVariants checks reductions of all kinds, up to some steps of the main loop.
func checkVariants(t *testing.T, b Backend, s Spec) {
	t.Helper()
	for k := range 4 * variants {
		n, count := 1+k%12, 9*k
		s := variant(s, n, k/2)
		random := rand.New(rand.NewPCG(uint64(k), 0))
		r := reduction{spec: s, count: count, dst: own, dst2: own, offsets: make([]int, n+2)}
		for j := range n {
			r.srcs = append(r.srcs, fillSource(random, s, j, n, count, 3))
		}
		if k%2 == 0 {
			r.scales = scaleValues[:n]
		}
		if err := r.check(b); err != nil {
			t.Fatalf("%+v of %d sources and %d elements: %v", s, n, count, err)
		}
	}
}

// strange is a floating-point environment that rounds towards zero and loses subnormal numbers.
const (
	towardsZero, flush, subnormalsAreZero, noSignals = 0x6000, 0x8000, 0x0040, 0x1f80
	statusBits                                       = 0x003f
	strange                                          = uint32(towardsZero | flush | subnormalsAreZero | noSignals)
)

// inStrange calls f in that environment, and returns what is left of it afterwards. It is the thread's: this goroutine keeps its
// thread meanwhile, so that nothing else comes to run in it.
func inStrange(f func()) uint32 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := exchangeMXCSR(strange)
	f()
	return exchangeMXCSR(before)
}

// TestReduceTinyInAnyEnvironment is TestReduceInAnyEnvironment for what does not reach the kernels as a rule.
func TestReduceTinyInAnyEnvironment(t *testing.T) {
	if selected == Generic {
		return // it computes in the thread's environment
	}
	eachTiny(t, func(t *testing.T, s Spec, srcs [][]byte) {
		want, got := make([]byte, len(srcs[0])), make([]byte, len(srcs[0]))
		s.ReduceOn(Generic, want, nil, srcs, nil)
		inStrange(func() { s.Reduce(got, nil, srcs, nil) })
		if s.DType.float() {
			compareTiny(t, s, got, want)
		}
	})
}

// TestReduceInAnyEnvironment calls the kernels from a thread that rounds towards zero and loses subnormal numbers, as a
// program may do that has loaded this library.
func TestReduceInAnyEnvironment(t *testing.T) {
	eachSpec(t, func(t *testing.T, b Backend, s Spec) {
		if b == Generic || !s.DType.float() {
			return
		}
		random := rand.New(rand.NewPCG(uint64(s.DType), uint64(s.Op)))
		var srcs [][]byte
		for range 3 {
			srcs = append(srcs, fill(random, s.DType, 3000, 2))
		}
		for _, divisor := range []int{0, 3} {
			if s.Divisor = divisor; s.Op != Sum && divisor > 0 {
				continue
			}
			want, got := make([]byte, len(srcs[0])), make([]byte, len(srcs[0]))
			s.ReduceOn(Generic, want, nil, srcs, nil)
			after := inStrange(func() { s.ReduceOn(b, got, nil, srcs, nil) })
			for i := range len(got) / s.DType.Size() {
				if x, y := element(s.DType, got, i), element(s.DType, want, i); !sameElement(s.DType, x, y) {
					t.Fatalf("%+v: element %d is %#x, want %#x", s, i, x, y)
				}
			}
			if after&^statusBits != strange {
				t.Errorf("%+v: the thread's environment is %#x afterwards, want %#x", s, after&^statusBits, strange)
			}
		}
	})
}
