// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce"
	"pgregory.net/rapid"
)

// rankCounts are where the choice of values changes.
var rankCounts = []int{1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 64, 100, 257, 1024}

// apply reduces two elements by their bits, rounding to the type as a node that passes its partial result on does.
func apply(p *pattern, a, b uint64) uint64 {
	switch {
	case p.op == Max && p.less(a, b), p.op == Min && p.less(b, a):
		return b
	case p.op == Max || p.op == Min:
		return a
	case p.float && p.op == Prod:
		return encode(p.dtype, decode(p.dtype, a)*decode(p.dtype, b))
	case p.float:
		return encode(p.dtype, decode(p.dtype, a)+decode(p.dtype, b))
	case p.op == Prod:
		return a * b & p.mask()
	}
	return (a + b) & p.mask()
}

// scaled returns a rank's input times its factor, for MulSum.
func scaled(p *pattern, rank, i int) uint64 {
	v := p.input(rank, i)
	if p.op != MulSum {
		return v
	}
	f := mulSumFactor(p.dtype, rank)
	if p.float {
		return encode(p.dtype, f*decode(p.dtype, v))
	}
	return v * uint64(int64(f)) & p.mask()
}

// reduceTree reduces ranks in a random order along a random binary tree, every step rounded.
func reduceTree(t *rapid.T, p *pattern, i int) uint64 {
	values := make([]uint64, p.ranks)
	for rank := range values {
		values[rank] = scaled(p, rank, i)
	}
	for len(values) > 1 {
		a := rapid.IntRange(0, len(values)-1).Draw(t, "a")
		va := values[a]
		values[a] = values[len(values)-1]
		values = values[:len(values)-1]
		b := rapid.IntRange(0, len(values)-1).Draw(t, "b")
		values[b] = apply(p, va, values[b])
	}
	if p.op != Avg {
		return values[0]
	}
	if !p.float {
		return values[0] / uint64(p.ranks)
	}
	return encode(p.dtype, decode(p.dtype, values[0])/float64(p.ranks))
}

// Any order of reduction, rounded at every step, gives the same bits: what the verification stands on.
func TestPatternIsExactInAnyOrder(t *testing.T) {
	for _, d := range hfreduce.DataTypes() {
		for _, op := range Ops() {
			t.Run(fmt.Sprintf("%s/%s", d, op), func(t *testing.T) {
				t.Parallel()
				rapid.Check(t, func(t *rapid.T) {
					p := newPattern(d, op, rapid.SampledFrom(rankCounts[:11]).Draw(t, "ranks"), tablePeriod)
					i := rapid.IntRange(0, tablePeriod-1).Draw(t, "index")
					got, want := reduceTree(t, p, i), p.result(i)
					if got != want && (p.tolerance() == 0 || units(got, want, p.bits) > p.tolerance()) {
						t.Fatalf("%d ranks, element %d: %#x, want %#x", p.ranks, i, got, want)
					}
				})
			})
		}
	}
}

// Also for many ranks, left to right.
func TestPatternIsExactForManyRanks(t *testing.T) {
	for _, d := range hfreduce.DataTypes() {
		for _, op := range Ops() {
			for _, ranks := range rankCounts {
				p := newPattern(d, op, ranks, tablePeriod)
				for i := range 5 {
					sum := scaled(p, 0, i)
					for rank := 1; rank < ranks; rank++ {
						sum = apply(p, sum, scaled(p, rank, i))
					}
					if op != Avg && sum != p.result(i) {
						t.Fatalf("%s %s, %d ranks, element %d: %#x, want %#x", d, op, ranks, i, sum, p.result(i))
					}
				}
			}
		}
	}
}

// A rank's contribution that is missing, there twice or replaced by another's must show within one period.
func TestPatternShowsFaultyContributions(t *testing.T) {
	for _, d := range hfreduce.DataTypes() {
		for _, op := range Ops() {
			for _, ranks := range []int{2, 8, 33} {
				p := newPattern(d, op, ranks, tablePeriod)
				for _, victim := range []int{0, ranks / 2, ranks - 1} {
					checkVisible(t, p, victim)
				}
			}
		}
	}
}

// Also in an average over many ranks, of which each has but a small part: 2 units in the last place are tolerated.
func TestPatternShowsFaultyAverages(t *testing.T) {
	for _, d := range hfreduce.DataTypes() {
		if !formatOf(d).float {
			continue // averages of int8 over more ranks than their sum has units are 0
		}
		for _, ranks := range []int{64, 128, 129, 256} {
			p := newPattern(d, Avg, ranks, tablePeriod)
			for _, victim := range []int{0, ranks / 2, ranks - 1} {
				checkVisible(t, p, victim)
			}
		}
	}
}

func checkVisible(t *testing.T, p *pattern, victim int) {
	t.Helper()
	other := (victim + 1) % p.ranks
	idempotent := p.op == Min || p.op == Max
	for fault, name := range [...]string{"dropped", "doubled", "replaced"} {
		visible := idempotent && name == "doubled"
		for i := 0; i < tablePeriod && !visible; i++ {
			got, ok := faulty(p, i, victim, other, fault)
			all := p.result(i)
			visible = ok && got != all && (p.tolerance() == 0 || units(got, all, p.bits) > p.tolerance())
		}
		if !visible {
			t.Errorf("%s %s, %d ranks: no element shows that rank %d's contribution was %s", p.dtype, p.op, p.ranks, victim, name)
		}
	}
}

// faulty reduces with one fault: rank victim's contribution is dropped (0), doubled (1) or replaced by other's (2).
func faulty(p *pattern, i, victim, other, fault int) (result uint64, ok bool) {
	add := func(v uint64) {
		if ok {
			v = apply(p, result, v)
		}
		result, ok = v, true
	}
	for rank := range p.ranks {
		switch {
		case rank != victim:
			add(scaled(p, rank, i))
		case fault == 1:
			add(scaled(p, rank, i))
			add(scaled(p, rank, i))
		case fault == 2:
			add(scaled(p, other, i))
		}
	}
	if p.op == Avg && p.float {
		result = encode(p.dtype, decode(p.dtype, result)/float64(p.ranks))
	} else if p.op == Avg {
		result /= uint64(p.ranks)
	}
	return result, ok
}

// Inputs differ from rank to rank and from element to element.
func TestPatternVaries(t *testing.T) {
	for _, d := range hfreduce.DataTypes() {
		for op := Sum; op <= None; op++ {
			p := newPattern(d, op, 8, tablePeriod)
			first, second := p.inputs(0), p.inputs(1)
			if n := first.mismatches(second.data, 0, 0); n < tablePeriod/4 {
				t.Errorf("%s %s: ranks 0 and 1 differ in %d elements of %d", d, op, n, tablePeriod)
			}
			if n := first.mismatches(first.data, 1, 0); n < tablePeriod/4 {
				t.Errorf("%s %s: only %d elements of %d differ from the one before", d, op, n, tablePeriod)
			}
			if n := first.mismatches(first.data, 0, 1); n < tablePeriod/4 {
				t.Errorf("%s %s: only %d elements of %d depend on the seed", d, op, n, tablePeriod)
			}
		}
	}
}

func TestMulSumFactorsDiffer(t *testing.T) {
	for _, d := range hfreduce.DataTypes() {
		for rank := range 64 {
			f := mulSumFactor(d, rank)
			if f == mulSumFactor(d, rank+1) || f == 0 {
				t.Errorf("%s: ranks %d and %d have factor %v", d, rank, rank+1, f)
			}
		}
	}
}

func TestElementsRoundTrip(t *testing.T) {
	for _, d := range hfreduce.DataTypes() {
		if f := formatOf(d); f.float {
			for _, v := range []float64{0, 1, -1, 1.5, 0.25, 4, -0.75} {
				if got := decode(d, encode(d, v)); got != v {
					t.Errorf("%s: %v becomes %v", d, v, got)
				}
			}
		} else if f.bits != 8*d.Size() {
			t.Errorf("%s: %d bits", d, f.bits)
		}
	}
	for _, size := range []int{1, 2, 4, 8} {
		b := make([]byte, 8)
		put(b, size, 0x8877665544332211)
		if got, want := get(b, size), uint64(0x8877665544332211)<<(64-8*size)>>(64-8*size); got != want {
			t.Errorf("%d bytes: %#x, want %#x", size, got, want)
		}
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		a, b float64
		want uint64
	}{{1, 1, 0}, {1, 1.0009765625, 1}, {5.9604645e-08, -5.9604645e-08, 2}, {2, 1.9990234375, 1}} {
		d := hfreduce.TypeFloat16
		if got := units(encode(d, c.a), encode(d, c.b), 16); got != c.want {
			t.Errorf("units(%v, %v) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
	if got := units(0x8000000000000000, 0, 64); got != 0 {
		t.Errorf("units(-0, 0) = %d", got)
	}
}
