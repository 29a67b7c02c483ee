// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"math"
	"testing"
)

// FuzzReduce takes the call apart from the arguments and all contents from data.
func FuzzReduce(f *testing.F) {
	f.Add(uint8(7), uint8(0), uint8(2), uint16(0), uint64(0), uint8(0), uint8(0), uint32(0), []byte("some words of four bytes"))
	f.Add(uint8(6), uint8(0), uint8(5), uint16(3), uint64(0), uint8(1), uint8(2), uint32(0o7654321), []byte{0, 0x3c, 1, 0, 0xff, 0x7b, 0, 0x80, 0, 0xfc})
	f.Add(uint8(10), uint8(2), uint8(3), uint16(0), math.Float64bits(-0.3), uint8(3), uint8(1), uint32(0o12), []byte{0x7e, 0x7f, 0x80, 1, 0xfe, 8})
	f.Add(uint8(4), uint8(1), uint8(2), uint16(0), math.Float64bits(3e18), uint8(2), uint8(3), uint32(1), []byte("0123456789abcdef0123456789abcdef"))
	f.Fuzz(func(t *testing.T, dtype, op, sources uint8, divisor uint16, scale uint64, dst, dst2 uint8, offsets uint32, data []byte) {
		s := Spec{DType: DType(dtype % 12), Op: Op(op % 4)}
		if s.Op == Sum {
			s.Divisor = int(divisor)
		}
		n := int(sources%12) + 1
		r := reduction{spec: s, count: len(data) / n / s.DType.Size(), dst: int(dst)%(n+1) + own, dst2: int(dst2)%(n+2) + none}
		bytes := r.count * s.DType.Size()
		for j := range n {
			r.srcs = append(r.srcs, data[j*bytes:][:bytes])
			if scale != 0 {
				r.scales = append(r.scales, math.Float64frombits(scale)*float64(j+1))
			}
		}
		for j := range n + 2 {
			r.offsets = append(r.offsets, int(offsets>>(3*j)&7))
		}
		if err := r.check(selected()); err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
	})
}
