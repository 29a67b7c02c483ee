// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"testing"
)

func TestColumn(t *testing.T) {
	for _, c := range []struct {
		v     float64
		width int
		want  string
	}{
		{0, 7, "   0.00"}, {0.004, 7, "   0.00"}, {9.999, 7, "  10.00"}, {9999.25, 7, "9999.25"}, {10000, 7, "10000.0"},
		{99999.5, 7, "99999.5"}, {123456.7, 7, " 123457"}, {1234567, 7, "1234567"}, {12345678, 7, "1.2e+07"},
		{999.994, 6, "999.99"}, {1000, 6, "1000.0"}, {12345, 6, " 12345"}, {123456, 6, "123456"}, {1234567, 6, " 1e+06"},
		{math.NaN(), 7, "    NaN"}, {math.Inf(1), 6, "  +Inf"},
	} {
		if got := column(c.v, c.width); got != c.want {
			t.Errorf("column(%v, %d) = %q, want %q", c.v, c.width, got, c.want)
		}
	}
}

func TestGeneralIsLikeC(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 1.5: "1.5", 24.6989: "24.6989", 0.0001: "0.0001", 0.00001: "1e-05", 123456: "123456",
		1234567: "1.23457e+06", 1e6: "1e+06", 100000: "100000", 1048576: "1.04858e+06", 12.3456789: "12.3457",
		math.Inf(1): "inf", math.Inf(-1): "-inf",
	} {
		if got := general(v); got != want {
			t.Errorf("general(%v) = %q, want %q", v, got, want)
		}
	}
	if got := general(math.NaN()); got != "nan" {
		t.Errorf("general(NaN) = %q", got)
	}
}

func TestStatsOf(t *testing.T) {
	times := make([]float64, 200)
	for i := range times {
		times[(i*37)%200] = float64(i + 1) // 1..200 in another order
	}
	s := statsOf(times)
	want := iterStats{min: 1, max: 200, mean: s.mean, p50: 101, p95: 190, p99: 198, stdev: s.stdev}
	if s != want || math.Abs(s.mean-100.5) > 1e-9 || math.Abs(s.stdev-57.734305) > 1e-6 {
		t.Errorf("%+v", s)
	}
	if s := statsOf([]float64{3}); s != (iterStats{min: 3, max: 3, mean: 3, p50: 3, p95: 3, p99: 3}) {
		t.Errorf("of one: %+v", s)
	}
	if v := statsOf([]float64{0, 0}).variation(); v != 0 {
		t.Errorf("variation of zeros: %v", v)
	}
}

func TestProcessTimes(t *testing.T) {
	// Two processes of two ranks, three iterations.
	all := []float64{1, 5, 2, 4, 2, 2, 7, 1, 1, 1, 1, 3}
	p := processTimes(all, 3, 2)
	if len(p) != 2 || p[0][0] != 4 || p[0][1] != 5 || p[0][2] != 2 || p[1][0] != 7 || p[1][1] != 1 || p[1][2] != 3 {
		t.Fatalf("processes: %v", p)
	}
	if s := slowest(p); s[0] != 7 || s[1] != 5 || s[2] != 3 {
		t.Errorf("slowest: %v", s)
	}
}
