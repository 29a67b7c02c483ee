// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"slices"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// everything is a configuration with all types, operators and kinds of output, and any number of sources.
func everything() Config {
	c := DefaultConfig()
	c.Ops, c.Variants, c.Stores = Ops(), Variants(), BothStores
	c.Sources = []int{1, 2, 3, 7, MaxSources}
	c.Sizes = []int64{MinSize, 100_000, 3 << 20}
	return c
}

func TestShape(t *testing.T) {
	for _, c := range []struct {
		size    int64
		dtype   hfreduce.DataType
		sources int
		variant Variant
		want    shape
		traffic int64
	}{
		{256 << 10, hfreduce.TypeFloat32, 2, PlainOut, shape{2, 1, 86016, 86016}, 3 * 86016}, // 87381 in whole pages
		{256 << 20, hfreduce.TypeInt8, 3, PlainOut, shape{3, 1, 64 << 20, 64 << 20}, 256 << 20},
		{1 << 20, hfreduce.TypeFloat8E4M3, 4, WideOut, shape{4, 1, 128 << 10, 512 << 10}, 1 << 20},
		{1 << 20, hfreduce.TypeBFloat16, 6, WideOut, shape{6, 1, 128 << 10, 256 << 10}, 1 << 20},
		{1 << 20, hfreduce.TypeFloat64, 2, SecondOut, shape{2, 2, 256 << 10, 256 << 10}, 1 << 20},
		{4096, hfreduce.TypeFloat16, 8, PlainOut, shape{8, 1, 4096, 4096}, 9 * 4096},
		{4096, hfreduce.TypeFloat16, 1, WideOut, shape{1, 1, 4096, 8192}, 3 * 4096},
	} {
		got := subject{size: c.size, dtype: c.dtype, sources: c.sources, variant: c.variant}.shape()
		if got != c.want || got.traffic() != c.traffic {
			t.Errorf("%d B, %s, %d sources, %s: %+v with traffic %d, want %+v with %d", c.size, c.dtype, c.sources, c.variant, got, got.traffic(), c.want, c.traffic)
		}
	}
}

// No case writes where it or any other case of its working set reads, its own buffers do not overlap, begin at a cache line
// and at different offsets into a page, and the traffic is within the working set.
func TestLayout(t *testing.T) {
	c := everything()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	groups := plan(&c)
	for _, g := range groups {
		r := regionOf(groups, g.size)
		for _, s := range g.cases {
			sh := s.shape()
			if smallest := int64(pageBytes * 40 * 4); sh.traffic() > g.size && g.size > smallest {
				t.Errorf("%s: traffic of %d", s, sh.traffic())
			}
			checkLayout(t, s, sh.layout(r.outputsAt), r)
		}
		from, to := halves(g.size, r.outputsAt)
		checkLayout(t, subject{size: g.size}, layout{[]place{from}, []place{to}}, r)
	}
}

func checkLayout(t *testing.T, s subject, l layout, r region) {
	t.Helper()
	all := append(slices.Clone(l.sources), l.outputs...)
	offsets := map[int64]bool{}
	for i, p := range all {
		if i > 0 && p.offset < all[i-1].end() || p.offset < 0 || p.end() > r.bytes || p.offset%64 != 0 || p.bytes < pageBytes {
			t.Fatalf("%s: buffer %d at %+v, before it %+v, arena of %d", s, i, p, all[max(0, i-1)], r.bytes)
		}
		offsets[p.offset%pageBytes] = true
	}
	if len(offsets) != len(all) {
		t.Errorf("%s: buffers at equal offsets into a page: %+v", s, all)
	}
	if end := l.sources[len(l.sources)-1].end(); end > r.outputsAt || l.outputs[0].offset < r.outputsAt {
		t.Errorf("%s: sources end at %d, outputs begin at %d, the border is %d", s, end, l.outputs[0].offset, r.outputsAt)
	}
}

func TestPlan(t *testing.T) {
	c := DefaultConfig()
	c.Backends, c.Types, c.Sources = []string{"generic"}, []hfreduce.DataType{hfreduce.TypeFloat32, hfreduce.TypeFloat16}, []int{2, 4}
	c.Ops, c.Variants, c.Sizes, c.Stores = []Op{Sum, Prod}, []Variant{PlainOut, WideOut}, []int64{8192, 16384}, BothStores
	groups := plan(&c)
	if len(groups) != 2*2*2 { // sizes, types, products or not
		t.Fatalf("%d groups", len(groups))
	}
	for i, g := range groups {
		want := 2 // sources; a wide output only for half, and no streams on the portable backend
		if g.dtype == hfreduce.TypeFloat16 {
			want = 4
		}
		if len(g.cases) != want || g.size != c.Sizes[i/4] || (g.cases[0].op == Prod) != (i%2 == 1) {
			t.Errorf("group %d: %+v", i, g)
		}
	}
	for stores, want := range map[Stores][2][]bool{
		PlainStores: {{false}, {false}}, StreamStores: {{true}, {true}}, BothStores: {{false, true}, {false, true}},
		AutoStores: {{false}, {false, true}},
	} {
		c.Stores = stores
		if small, large := c.streams(8192), c.streams(16384); !slices.Equal(small, want[0]) || !slices.Equal(large, want[1]) {
			t.Errorf("%s: %v for the small, %v for the large working set", stores, small, large)
		}
	}
}

func TestSpecs(t *testing.T) {
	s := subject{dtype: hfreduce.TypeFloat16, sources: 4, backend: kernel.AVX2, stream: true, variant: SecondOut}
	for op, want := range map[Op]kernel.Spec{
		Sum: {}, MulSum: {}, Avg: {Divisor: 4}, Prod: {Op: kernel.Prod}, Max: {Op: kernel.Max}, Min: {Op: kernel.Min},
	} {
		s.op = op
		want.DType, want.StreamDst, want.StreamDst2 = kernel.Float16, true, true
		if got := s.spec(); got != want {
			t.Errorf("%s: %+v, want %+v", op, got, want)
		}
		if scales := s.scales(); (op == MulSum) != slices.Equal(scales, []float64{2, 3, 2, 3}) {
			t.Errorf("%s: scales %v", op, scales)
		}
	}
	s.variant = WideOut
	if spec := s.spec(); !spec.Wide || spec.StreamDst2 {
		t.Errorf("wide: %+v", spec)
	}
}
