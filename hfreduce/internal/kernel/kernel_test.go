// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"strings"
	"testing"
)

func TestDTypeNamesAndSizes(t *testing.T) {
	// Number, name and size as nccl.h and nccl-tests have them.
	want := "0 int8 1|1 uint8 1|2 int32 4|3 uint32 4|4 int64 8|5 uint64 8|6 half 2|7 float 4|8 double 8|9 bfloat16 2|10 f8e4m3 1|11 f8e5m2 1"
	var got []string
	for _, d := range []DType{Int8, Uint8, Int32, Uint32, Int64, Uint64, Float16, Float32, Float64, BFloat16, Float8E4M3, Float8E5M2} {
		if !d.Valid() {
			t.Errorf("%s is not valid", d)
		}
		got = append(got, fmt.Sprintf("%d %s %d", uint8(d), d, d.Size()))
	}
	if got := strings.Join(got, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if d := DType(12); d.Valid() || d.Size() != 0 || d.String() != "DType(12)" {
		t.Errorf("type 12: valid %v, size %d, name %s", d.Valid(), d.Size(), d)
	}
}

func TestOpNames(t *testing.T) {
	if got := fmt.Sprint(Sum, Prod, Max, Min, Op(4)); got != "sum prod max min Op(4)" {
		t.Errorf("got %s", got)
	}
	if !Min.Valid() || Op(4).Valid() {
		t.Error("the valid operators are 0 to 3")
	}
}

func TestSpecValidate(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want string // part of the error, "" for none
	}{
		{Spec{}, ""},
		{Spec{DType: Float8E5M2, Op: Min, Divisor: 1}, ""},
		{Spec{DType: BFloat16, Divisor: 24}, ""},
		{Spec{DType: 12}, "element type 12"},
		{Spec{Op: 4}, "operator 4"},
		{Spec{Divisor: -2}, "divisor -2"},
		{Spec{Op: Max, Divisor: 2}, "divisor 2 with operator max"},
	} {
		err := c.spec.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "kernel: ")) {
			t.Errorf("%+v: error %v, want %q", c.spec, err, c.want)
		}
	}
}

func TestReduceRefusesWhatWouldWriteElsewhere(t *testing.T) {
	b := func(n int) []byte { return make([]byte, n) }
	for _, c := range []struct {
		name      string
		spec      Spec
		dst, dst2 []byte
		srcs      [][]byte
		scales    []float64
	}{
		{"no source", Spec{}, b(8), nil, nil, nil},
		{"type", Spec{DType: 99}, b(8), nil, [][]byte{b(8), b(8)}, nil},
		{"part of an element", Spec{DType: Float32}, b(6), nil, [][]byte{b(6), b(6)}, nil},
		{"short source", Spec{}, b(8), nil, [][]byte{b(8), b(7)}, nil},
		{"long source", Spec{}, b(8), nil, [][]byte{b(8), b(9)}, nil},
		{"second output", Spec{}, b(8), b(7), [][]byte{b(8), b(8)}, nil},
		{"scales", Spec{}, b(8), nil, [][]byte{b(8), b(8)}, []float64{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func() {
				if err, ok := recover().(error); !ok || !strings.HasPrefix(err.Error(), "kernel: ") {
					t.Errorf("got %v, want a panic with the package's error", err)
				}
			}()
			c.spec.Reduce(c.dst, c.dst2, c.srcs, c.scales)
		})
	}
}

func TestReduceEmpty(t *testing.T) {
	Spec{DType: Float64}.Reduce(nil, nil, [][]byte{nil, {}}, nil)
	Spec{DType: Float64}.Reduce([]byte{}, []byte{}, [][]byte{nil}, []float64{2})
}

func TestBackendIsAvailable(t *testing.T) {
	if !selected().available() || Backend() != "generic" {
		t.Errorf("backend %q, available %v", Backend(), selected().available())
	}
}

// TestReduceAllocatesNothing also builds the list of sources anew for each call: it must be able to stay on the stack.
func TestReduceAllocatesNothing(t *testing.T) {
	const bytes = 600 * 8
	dst, dst2, src := make([]byte, bytes), make([]byte, bytes), make([]byte, bytes)
	for d := range dtypes {
		for _, n := range []int{1, 2, 4, 5, 10} {
			for _, scaled := range []bool{false, true} {
				got := testing.AllocsPerRun(3, func() {
					var srcs [MaxSources][]byte
					var all [MaxSources]float64
					for j := range srcs {
						srcs[j] = src
					}
					scales := all[:n]
					if !scaled {
						scales = nil
					}
					Spec{DType: DType(d), Divisor: 3}.Reduce(dst, dst2, srcs[:n], scales)
				})
				if got != 0 {
					t.Errorf("%s, %d sources, scaled %v: %v allocations", DType(d), n, scaled, got)
				}
			}
		}
	}
}
