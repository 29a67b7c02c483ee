// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "8": 8, "64K": 64 << 10, "64k": 64 << 10, "16M": 16 << 20, "1G": 1 << 30, "1.5g": 3 << 29, "0.5K": 512,
		"1.9": 1, "1e3": 1000, "32 M": 32 << 20, "8KB": 8 << 10, "8KiB": 8 << 10, "2GB": 2 << 30, "64G": 64 << 30,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "K", "x", "8Q", "-1", "-1K", "0x10", "inf", "nan", "8KK", "8B", "1G1", "9e18G", "1_000", "8 8"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", s, got)
		} else if !strings.Contains(err.Error(), "suffix K, M or G") {
			t.Errorf("ParseSize(%q): %v does not say what to give", s, err)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"8", "1.5G", "64KiB", "-1", "0x1p4", "9e18G"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); n < 0 || err != nil && n != 0 {
			t.Fatalf("ParseSize(%q) = %d, %v", s, n, err)
		}
	})
}

func TestSweep(t *testing.T) {
	for _, c := range []struct {
		low, high, step, factor int64
		want                    []int64
	}{
		{8, 128, 1 << 20, 2, []int64{8, 16, 32, 64, 128}},
		{4, 100, 0, 4, []int64{4, 16, 64}},
		{8, 8, 1 << 20, 1, []int64{8}},
		{8, 24, 8, 1, []int64{8, 16, 24}},
		{0, 16, 8, 1, []int64{0, 8, 16}},
		{0, 0, 0, 2, []int64{0}},
		{math.MaxInt64 - 1, math.MaxInt64, 5, 1, []int64{math.MaxInt64 - 1}},
		{math.MaxInt64 / 2, math.MaxInt64, 0, 3, []int64{math.MaxInt64 / 2}},
		{9, 8, 1, 1, nil},
	} {
		if got := slices.Collect(sweep(c.low, c.high, c.step, c.factor)); !slices.Equal(got, c.want) {
			t.Errorf("sweep(%d, %d, %d, %d) = %v, want %v", c.low, c.high, c.step, c.factor, got, c.want)
		}
	}
}

func TestSweepEndsAndGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Int64Range(0, 1<<20).Draw(t, "low")
		high := low + rapid.Int64Range(0, 1<<20).Draw(t, "span")
		step := rapid.Int64Range(0, 1<<19).Draw(t, "step")
		factor := rapid.Int64Range(0, 5).Draw(t, "factor")
		last, n := int64(-1), 0
		for size := range sweep(low, high, max(step, 1<<10), factor) {
			if size <= last || size < low || size > high {
				t.Fatalf("size %d after %d, of %d to %d", size, last, low, high)
			}
			last = size
			n++
		}
		if n == 0 {
			t.Fatal("no size at all")
		}
	})
}

func TestShapes(t *testing.T) {
	for _, c := range []struct {
		collective  Collective
		bytes       int64
		elem, ranks int
		want        shape
	}{
		{AllReduce, 10, 4, 3, shape{send: 2, recv: 2, count: 2}},
		{Broadcast, 16, 8, 3, shape{send: 2, recv: 2, count: 2}},
		{AllGather, 1024, 4, 8, shape{send: 32, recv: 256, count: 32, sendAt: 32}},
		{AllGather, 64, 4, 8, shape{}},                                               // blocks would be 8 bytes
		{AllGather, 100, 1, 3, shape{send: 32, recv: 96, count: 32, sendAt: 32}},     // rounded to 16 bytes
		{ReduceScatter, 100, 2, 3, shape{send: 48, recv: 16, count: 16, recvAt: 16}}, // 32 bytes of 33
		{ReduceScatter, 8, 8, 2, shape{}},
		{Barrier, 1 << 20, 1, 4, shape{}},
	} {
		if got := c.collective.shape(c.bytes, c.elem, c.ranks); got != c.want {
			t.Errorf("%s of %d bytes, elements of %d, %d ranks: %+v, want %+v", c.collective, c.bytes, c.elem, c.ranks, got, c.want)
		}
	}
}

func TestShapesFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(Collectives()).Draw(t, "collective")
		bytes := rapid.Int64Range(0, 1<<40).Draw(t, "bytes")
		elem := rapid.SampledFrom([]int{1, 2, 4, 8}).Draw(t, "elem")
		ranks := rapid.IntRange(1, 3000).Draw(t, "ranks")
		s := c.shape(bytes, elem, ranks)
		if max(s.send, s.recv)*int64(elem) > bytes {
			t.Fatalf("%+v is more than %d bytes", s, bytes)
		}
		switch c {
		case ReduceScatter, AllGather:
			if s.count*int64(elem)%blockBytes != 0 || max(s.send, s.recv) != s.count*int64(ranks) {
				t.Fatalf("%+v has uneven blocks", s)
			}
		case Barrier:
		default:
			if s.count != bytes/int64(elem) || s.send != s.count || s.recv != s.count {
				t.Fatalf("%+v is not %d bytes", s, bytes)
			}
		}
	})
}

func TestWarmupSizes(t *testing.T) {
	for _, c := range []struct {
		low, high int64
		want      []int64
	}{{8, 40, []int64{8, 16, 32}}, {0, 5, []int64{1, 2, 4}}, {0, 0, []int64{0}}} {
		if got := slices.Collect((&Config{MinBytes: c.low, MaxBytes: c.high}).warmupSizes()); !slices.Equal(got, c.want) {
			t.Errorf("-b %d -e %d: %v, want %v", c.low, c.high, got, c.want)
		}
	}
}

func TestBandwidth(t *testing.T) {
	// The figures of a published run of nccl-tests: 4 ranks, 32 MiB in 2037.7 us.
	s := AllReduce.shape(32<<20, 4, 4)
	alg, bus := AllReduce.bandwidth(s, 4, 4, 2037.7e-6)
	if column(alg, 6) != " 16.47" || column(bus, 6) != " 24.70" {
		t.Errorf("allreduce: %v %v", alg, bus)
	}
	for c, factor := range map[Collective]float64{Reduce: 1, Broadcast: 1, ReduceScatter: 0.75, AllGather: 0.75} {
		alg, bus := c.bandwidth(c.shape(1<<20, 4, 4), 4, 4, 1e-3)
		if math.Abs(alg-1.048576) > 1e-9 || math.Abs(bus-factor*alg) > 1e-9 {
			t.Errorf("%s: %v %v", c, alg, bus)
		}
	}
	if alg, bus := Barrier.bandwidth(shape{}, 1, 4, 1e-6); alg != 0 || bus != 0 {
		t.Errorf("barrier: %v %v", alg, bus)
	}
	if alg, _ := AllReduce.bandwidth(s, 4, 4, 0); alg != 0 {
		t.Errorf("no time at all: %v", alg)
	}
}
