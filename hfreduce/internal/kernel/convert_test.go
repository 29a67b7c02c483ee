// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// conversion is a narrow type with its conversions, under one signature.
type conversion struct {
	t      DType
	widen  func(uint32) float32
	narrow func(float32) uint32
}

// conversions lists the narrow types.
var conversions = []conversion{
	{Float16, func(c uint32) float32 { return Float16ToFloat32(uint16(c)) }, func(f float32) uint32 { return uint32(Float32ToFloat16(f)) }},
	{BFloat16, func(c uint32) float32 { return BFloat16ToFloat32(uint16(c)) }, func(f float32) uint32 { return uint32(Float32ToBFloat16(f)) }},
	{Float8E4M3, func(c uint32) float32 { return Float8E4M3ToFloat32(uint8(c)) }, func(f float32) uint32 { return uint32(Float32ToFloat8E4M3(f)) }},
	{Float8E5M2, func(c uint32) float32 { return Float8E5M2ToFloat32(uint8(c)) }, func(f float32) uint32 { return uint32(Float32ToFloat8E5M2(f)) }},
}

func TestWidenAllCodes(t *testing.T) {
	for _, c := range conversions {
		t.Run(c.t.String(), func(t *testing.T) {
			f := formats[c.t]
			for code := range uint32(1) << (8 * c.t.Size()) {
				got, want := c.widen(code), f.decode(code)
				if math.IsNaN(want) {
					if got == got || math.Signbit(float64(got)) != math.Signbit(want) {
						t.Fatalf("%#x becomes %v, want NaN of its sign", code, got)
					}
					if back := c.narrow(got); !isNaN(c.t, uint64(back)) || (back^code)>>(8*c.t.Size()-1) != 0 {
						t.Fatalf("NaN %#x comes back as %#x, want NaN of its sign", code, back)
					}
					continue
				}
				if math.Float64bits(float64(got)) != math.Float64bits(want) {
					t.Fatalf("%#x becomes %v, want %v", code, got, want)
				}
				if back := c.narrow(got); back != code {
					t.Fatalf("%#x comes back as %#x", code, back)
				}
			}
		})
	}
}

// boundaries returns where rounding to a narrow type changes: each middle between two neighbours and what lies next to it on
// both sides, and values that end a range; all with both signs.
func boundaries(t *testing.T, d DType) []float32 {
	var all []float32
	f := formats[d]
	for i := range f.values[1:] {
		middle := float32(f.values[i]/2 + f.values[i+1]/2)
		if float64(middle) != f.values[i]/2+f.values[i+1]/2 && !math.IsInf(float64(middle), 0) {
			t.Fatalf("the middle above code %#x is no float32", i)
		}
		all = append(all, math.Nextafter32(middle, 0), middle, math.Nextafter32(middle, float32(math.Inf(1))))
	}
	for _, v := range []float64{0, math.SmallestNonzeroFloat32, 0x1p-126, 448, 464, 480, 496, 512, 57344, 61440, 65504, 65520, 65536, math.MaxFloat32, math.Inf(1), math.NaN()} {
		all = append(all, float32(v))
	}
	for _, v := range all {
		all = append(all, -v)
	}
	return all
}

func TestNarrowBoundaries(t *testing.T) {
	for _, c := range conversions {
		t.Run(c.t.String(), func(t *testing.T) {
			for _, v := range boundaries(t, c.t) {
				checkNarrow(t, c.t, c.narrow, v)
			}
		})
	}
}

func TestNarrowRandom(t *testing.T) {
	for _, c := range conversions {
		t.Run(c.t.String(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(c.t), 1))
			for range 100_000 {
				v := math.Float32frombits(r.Uint32())
				checkNarrow(t, c.t, c.narrow, v)
				// Most of all float32 lie beyond the narrow range; bring this one near it.
				checkNarrow(t, c.t, c.narrow, float32(math.Ldexp(float64(v), -math.Ilogb(float64(v))-28+r.IntN(46))))
			}
		})
	}
}

func checkNarrow(t *testing.T, d DType, narrow func(float32) uint32, v float32) {
	t.Helper()
	got, want := narrow(v), formats[d].encode(float64(v))
	if !sameElement(d, uint64(got), uint64(want)) {
		t.Fatalf("%v (%#08x) becomes %#x, want %#x", v, math.Float32bits(v), got, want)
	}
	if v != v && (got>>(8*d.Size()-1) != 0) != math.Signbit(float64(v)) {
		t.Fatalf("NaN %#08x becomes %#x, want its sign kept", math.Float32bits(v), got)
	}
}

// TestReferenceFormats holds the reference against numbers from the formats' definitions.
func TestReferenceFormats(t *testing.T) {
	for _, c := range []struct {
		t    DType
		code uint32
		want float64
	}{
		{Float16, 0x0001, 0x1p-24}, {Float16, 0x0400, 0x1p-14}, {Float16, 0x3c00, 1}, {Float16, 0x7bff, 65504}, {Float16, 0xfc00, math.Inf(-1)},
		{BFloat16, 0x0001, 0x1p-133}, {BFloat16, 0x3f80, 1}, {BFloat16, 0x7f7f, 0x1.fep127}, {BFloat16, 0x7f80, math.Inf(1)},
		{Float8E4M3, 0x01, 0x1p-9}, {Float8E4M3, 0x08, 0x1p-6}, {Float8E4M3, 0x38, 1}, {Float8E4M3, 0x7e, 448}, {Float8E4M3, 0xfe, -448},
		{Float8E5M2, 0x01, 0x1p-16}, {Float8E5M2, 0x04, 0x1p-14}, {Float8E5M2, 0x3c, 1}, {Float8E5M2, 0x7b, 57344}, {Float8E5M2, 0x7c, math.Inf(1)},
	} {
		if got := formats[c.t].decode(c.code); got != c.want {
			t.Errorf("%s %#x is %v in the reference, want %v", c.t, c.code, got, c.want)
		}
		if got := formats[c.t].encode(c.want); got != c.code {
			t.Errorf("%s: %v is %#x in the reference, want %#x", c.t, c.want, got, c.code)
		}
	}
}
