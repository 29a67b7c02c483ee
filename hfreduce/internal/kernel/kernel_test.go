// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/internal/testreq"
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
		{Spec{DType: Float16, Op: Prod, Wide: true, WideSources: 100, StreamDst: true, StreamDst2: true}, ""},
		{Spec{DType: Float8E4M3, Divisor: 3, Wide: true}, ""},
		{Spec{DType: BFloat16, WideSources: -1}, "number of wide sources -1"},
		{Spec{DType: Uint64, StreamDst: true}, ""},
		{Spec{Wide: true}, "with int8"},
		{Spec{DType: Float32, Wide: true}, "with float"},
		{Spec{DType: Float32, WideSources: 1}, "with float"},
		{Spec{DType: Float64, WideSources: 1}, "with double"},
		{Spec{DType: Uint32, WideSources: 1}, "with uint32"},
	} {
		err := c.spec.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "kernel: ")) {
			t.Errorf("%+v: error %v, want %q", c.spec, err, c.want)
		}
	}
}

func TestReduceRefusesWhatWouldWriteElsewhere(t *testing.T) {
	b := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
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
		{"no scales", Spec{}, b(8), nil, [][]byte{b(8), b(8)}, []float64{}},
		{"wide type", Spec{DType: Float64, Wide: true}, b(8), nil, [][]byte{b(8), b(8)}, nil},
		{"fewer than no wide sources", Spec{DType: Float16, WideSources: -1}, b(8), nil, [][]byte{b(8), b(8)}, nil},
		{"more wide sources than sources", Spec{DType: Float16, WideSources: 3}, b(8), nil, [][]byte{b(16), b(16)}, nil},
		{"part of a wide element", Spec{DType: Float16, Wide: true}, b(6), nil, [][]byte{b(3), b(3)}, nil},
		{"narrow output", Spec{DType: Float16, Wide: true}, b(8), nil, [][]byte{b(8), b(8)}, nil},
		{"narrow second output", Spec{DType: Float16, Wide: true}, b(16), b(8), [][]byte{b(8), b(8)}, nil},
		{"wide output", Spec{DType: Float16}, b(16), nil, [][]byte{b(8), b(8)}, nil},
		{"narrow source among the wide", Spec{DType: Float16, WideSources: 2}, b(8), nil, [][]byte{b(8), b(8), b(16)}, nil},
		{"wide source among the narrow", Spec{DType: Float16, WideSources: 1}, b(8), nil, [][]byte{b(8), b(16), b(16)}, nil},
		{"wide source first", Spec{DType: Float16, WideSources: 1}, b(8), nil, [][]byte{b(16), b(8)}, nil},
		{"wide copy of a narrow source", Spec{DType: Float16, Wide: true, WideSources: 1}, b(16), nil, [][]byte{b(8)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func() {
				if err, ok := recover().(error); !ok || !strings.HasPrefix(err.Error(), "kernel: ") {
					t.Errorf("got %v, want a panic with the package's error", err)
				}
				for _, buf := range append(c.srcs, c.dst, c.dst2) {
					if bytes.Count(buf, []byte{1}) != len(buf) {
						t.Error("something was written")
					}
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

func TestChoose(t *testing.T) {
	best := Backends()[len(Backends())-1]
	for i, name := range backendNames {
		b := Backend(i)
		switch got, err := choose(name); {
		case b.Available() && (got != b || err != nil):
			t.Errorf("choose(%q) = %s, %v", name, got, err)
		case !b.Available() && (got != best || err == nil || !strings.Contains(err.Error(), "HFREDUCE_KERNEL="+name)):
			t.Errorf("choose(%q), which is not available, = %s, %v, want %s and an error", name, got, err, best)
		}
	}
	if got, err := choose(""); got != best || err != nil {
		t.Errorf("without a wish: %s, %v, want %s", got, err, best)
	}
	if got, err := choose("sse9"); got != best || err == nil || !strings.Contains(err.Error(), `HFREDUCE_KERNEL="sse9"`) {
		t.Errorf("unknown backend: %s, %v, want %s and an error", got, err, best)
	}
	if b, _ := Selected(); b != selected || !b.Available() {
		t.Errorf("%s is selected, available %v, and %s used", b, b.Available(), selected)
	}
	if name := Backend(99).String(); name != "Backend(99)" {
		t.Errorf("backend 99 is named %s", name)
	}
}

// allocationRuns is more than one, as AllocsPerRun counts what the runtime allocates meanwhile and rounds down.
const allocationRuns = 3

// TestReduceAllocatesNothing also builds the list of sources anew for each call: it must be able to stay on the stack.
func TestReduceAllocatesNothing(t *testing.T) {
	const count = 600
	dst, dst2, src := make([]byte, 8*count), make([]byte, 8*count), make([]byte, 8*count)
	eachSpec(t, func(t *testing.T, b Backend, s Spec) {
		for _, n := range []int{1, 2, 5, 10} {
			for k := range variants {
				s := variant(s, n, k)
				got := testing.AllocsPerRun(allocationRuns, func() {
					var srcs [MaxSources][]byte
					var all [MaxSources]float64
					for j := range srcs {
						srcs[j] = src[:count*srcSize(s, j, n)]
					}
					scales := all[:n]
					if k%3 == 0 {
						scales = nil
					}
					size := count * s.outSize()
					s.ReduceOn(b, dst[:size], dst2[:size], srcs[:n], scales)
				})
				if got != 0 {
					t.Errorf("%+v, %d sources, scaled %v: %v allocations", s, n, k%3 != 0, got)
				}
			}
		}
	})
}

// TestSelectedAsAsked makes a run that asks for a backend by the environment a run on that backend.
func TestSelectedAsAsked(t *testing.T) {
	name := os.Getenv(Environment)
	if name == "" {
		name = Backends()[len(Backends())-1].String()
	}
	got, err := Selected()
	if err != nil {
		testreq.Missing(t, name, err.Error())
	}
	if got.String() != name {
		t.Errorf("%s runs, want %s", got, name)
	}
}
