// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// decode returns an element of a floating-point type and the type's smallest normal number.
func decode(d hfreduce.DataType, b []byte) (value, smallest float64) {
	switch d {
	case hfreduce.TypeFloat16:
		return float64(hfreduce.Float16(binary.NativeEndian.Uint16(b)).Float32()), 0x1p-14
	case hfreduce.TypeBFloat16:
		return float64(hfreduce.BFloat16(binary.NativeEndian.Uint16(b)).Float32()), 0x1p-126
	case hfreduce.TypeFloat32:
		return float64(math.Float32frombits(binary.NativeEndian.Uint32(b))), 0x1p-126
	case hfreduce.TypeFloat64:
		return math.Float64frombits(binary.NativeEndian.Uint64(b)), 0x1p-1022
	case hfreduce.TypeFloat8E4M3:
		return float64(hfreduce.Float8E4M3(b[0]).Float32()), 0x1p-6
	}
	return float64(hfreduce.Float8E5M2(b[0]).Float32()), 0x1p-14
}

// Sources and results of all operators are ordinary numbers, whatever the number of sources.
func TestDataIsOrdinary(t *testing.T) {
	const bytes = 8 << 10
	for _, d := range hfreduce.DataTypes()[6:] {
		for _, op := range Ops() {
			for _, n := range []int{2, 3, MaxSources} {
				s := subject{dtype: d, op: op, sources: n}
				buffers := make([][]byte, n)
				for i := range buffers {
					buffers[i] = make([]byte, bytes)
					fillOf(d, op == Prod).into(buffers[i], uint64(i))
				}
				dst := make([]byte, bytes)
				s.spec().ReduceOn(kernel.Generic, dst, nil, buffers, s.scales())
				for _, b := range append(buffers, dst) {
					for at := 0; at < bytes; at += d.Size() {
						if v, smallest := decode(d, b[at:]); !(v >= smallest) || math.IsInf(v, 0) {
							t.Fatalf("%s %s of %d: %v", d, op, n, v)
						}
					}
				}
			}
		}
	}
}

// The data differs from element to element and from seed to seed, and is the same for the same seed.
func TestDataIsRandom(t *testing.T) {
	for _, d := range hfreduce.DataTypes() {
		for _, prod := range []bool{false, true} {
			seen := map[string]bool{}
			var b, same, other [4096]byte
			f := fillOf(d, prod)
			f.into(b[:], 1)
			f.into(same[:], 1)
			f.into(other[:], 2)
			for at := 0; at < len(b); at += d.Size() {
				seen[string(b[at:at+d.Size()])] = true
			}
			if len(seen) < 2 || b != same || b == other {
				t.Errorf("%s, product %t: %d different elements", d, prod, len(seen))
			}
		}
	}
	var b [4096]byte
	fillOf(hfreduce.TypeFloat32, true).into(b[:], 1)
	above, below := 0, 0
	for at := 0; at < len(b); at += 4 {
		v, _ := decode(hfreduce.TypeFloat32, b[at:])
		if v >= 1 {
			above++
		} else {
			below++
		}
		if v < 0.9375 || v >= 1.125 {
			t.Errorf("a factor of %v", v)
		}
	}
	if above < below/2 || below < above/2 {
		t.Errorf("%d factors from 1 up, %d below", above, below)
	}
}
