// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"pgregory.net/rapid"
)

var scaleValues = []float64{1, -1, 0.5, 3, -2.75, 1.0 / 3, 0.1, 1e-30, 1e30, 1e300, math.Copysign(0, -1), 300, 1 << 40, -1 << 63, 1 << 63, math.Inf(1), math.NaN()}

var divisors = []int{0, 1, 2, 3, 7, 8, 24, 127, 128, 200, 1000, 1<<24 + 1, math.MaxInt}

// drawReduction draws everything about a call but its type and operator.
func drawReduction(t *rapid.T, s Spec) reduction {
	n := rapid.IntRange(1, 12).Draw(t, "sources")
	r := reduction{spec: drawSpec(t, s, n), count: drawCount(t)}
	r.scales = drawScales(t, n)
	r.dst = rapid.SampledFrom(hosts(r.spec, n)).Draw(t, "dst")
	r.dst2 = rapid.SampledFrom(append(hosts(r.spec, n), none)).Draw(t, "dst2")
	r.offsets = rapid.SliceOfN(rapid.IntRange(0, lineBytes-1), n+2, n+2).Draw(t, "offsets")
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	mode := rapid.IntRange(0, 3).Draw(t, "mode")
	for j := range n {
		r.srcs = append(r.srcs, fillSource(random, r.spec, j, n, r.count, mode))
	}
	return r
}

func drawSpec(t *rapid.T, s Spec, n int) Spec {
	if s.Op == Sum {
		s.Divisor = rapid.SampledFrom(divisors).Draw(t, "divisor")
	}
	if accumulatesWide(s.DType) {
		s.Wide = rapid.Bool().Draw(t, "wide")
		s.WideSources = rapid.IntRange(0, n).Draw(t, "wide sources")
	}
	s.StreamDst = rapid.Bool().Draw(t, "stream dst")
	s.StreamDst2 = rapid.Bool().Draw(t, "stream dst2")
	return s
}

// drawCount prefers counts of a few vector registers, and those next to where a loop of a backend may end.
func drawCount(t *rapid.T) int {
	step := rapid.SampledFrom([]int{64, 128, 256, 512})
	edge := rapid.Custom(func(t *rapid.T) int {
		return rapid.IntRange(1, 7).Draw(t, "steps")*step.Draw(t, "step") + rapid.IntRange(-2, 2).Draw(t, "beside")
	})
	few := rapid.IntRange(0, 150)
	return rapid.OneOf(few, few, few, edge, edge, rapid.IntRange(0, 4096)).Draw(t, "count")
}

func drawScales(t *rapid.T, n int) []float64 {
	if !rapid.Bool().Draw(t, "scaled") {
		return nil
	}
	return rapid.SliceOfN(rapid.SampledFrom(scaleValues), n, n).Draw(t, "scales")
}

// hosts returns where an output may stand: in memory of its own, or in that of a source with elements of its size.
func hosts(s Spec, n int) []int {
	all := []int{own}
	for j := range n {
		if sourceType(s, j, n).Size() == outputType(s).Size() {
			all = append(all, j)
		}
	}
	return all
}

// accumulatesWide reports whether sums of t can be had in float32.
func accumulatesWide(t DType) bool { return formats[t] != nil && t.Size() < 4 }

// variants is the number of specs that variant knows.
const variants = 32

// variant returns s with hints and widths that follow from k. Types that cannot be wide repeat after 4.
func variant(s Spec, n, k int) Spec {
	s.StreamDst, s.StreamDst2 = k&1 != 0, k&2 != 0
	if accumulatesWide(s.DType) {
		s.Wide = k&4 != 0
		s.WideSources = []int{0, 1, n, n / 2}[k/8%4]
	}
	return s
}

// fillSource writes the elements of source j of n.
func fillSource(r *rand.Rand, s Spec, j, n, count, mode int) []byte {
	if t := sourceType(s, j, n); t == s.DType {
		return fill(r, t, count, mode)
	}
	return fillWide(r, s.DType, count, mode)
}

// fill writes count random elements. mode 0 draws all bits; 1 numbers of about one size, so that sums round and tie and
// products neither vanish nor overflow; 2 extreme values; 3 any of these.
func fill(r *rand.Rand, t DType, count, mode int) []byte {
	out := make([]byte, 0, count*t.Size()+8)
	for range count {
		m := mode
		if m == 3 {
			m = r.IntN(3)
		}
		v := r.Uint64()
		if f := formats[t]; f != nil {
			v = f.random(r, v, m)
		} else {
			v = randomInteger(r, v, 8*t.Size(), m)
		}
		out = binary.NativeEndian.AppendUint64(out, v)[:len(out)+t.Size()] // the low bytes come first on both our machines
	}
	return out
}

// random makes a code of v in the manner of fill.
func (f *format) random(r *rand.Rand, v uint64, mode int) uint64 {
	size := f.expBits + f.manBits
	sign := v & (1 << size)
	switch mode {
	case 1:
		e := uint64(f.bias() - 2 + int(v>>40%5))
		return sign | e<<f.manBits | v>>1&(1<<f.manBits-1)
	case 2:
		edge := [...]uint64{0, 1, 1<<f.manBits - 1, 1 << f.manBits, 1<<size - 1<<f.manBits, 1<<size - 1}
		return sign | (edge[r.IntN(len(edge))]+uint64(r.IntN(3)-1))&(1<<size-1)
	}
	return v
}

func randomInteger(r *rand.Rand, v uint64, width, mode int) uint64 {
	switch mode {
	case 1:
		return v%64 - 32
	case 2:
		return [...]uint64{0, 1, 1<<(width-1) - 1, 1 << (width - 1), math.MaxUint64}[r.IntN(5)]
	}
	return v
}

// fillWide writes count float32 as fill does, but one in four, if its mode is 2 or 3, is a value of t or the middle above
// one, or lies next to it: there, the rounding to t changes.
func fillWide(r *rand.Rand, t DType, count, mode int) []byte {
	out := fill(r, Float32, count, mode)
	f := formats[t]
	for i := range count {
		if mode < 2 || r.IntN(4) > 0 {
			continue
		}
		code := r.IntN(len(f.values) - 1)
		v := float32(f.values[code])
		if r.IntN(2) == 0 {
			v = float32(f.values[code]/2 + f.values[code+1]/2)
		}
		bits := math.Float32bits(v) + uint32(r.IntN(3)) - 1 | r.Uint32()&(1<<31)
		binary.NativeEndian.PutUint32(out[4*i:], bits)
	}
	return out
}
