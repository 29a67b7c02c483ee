// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"math"
	"math/bits"
	"testing"
)

// FuzzReduce takes the call apart from the arguments and all contents from data, and runs it on every backend there is.
func FuzzReduce(f *testing.F) {
	f.Add(uint8(7), uint8(0), uint8(2), uint16(0), uint64(0), uint8(0), uint8(0), uint8(0), uint8(3), uint64(0), []byte("some words of four bytes"))
	f.Add(uint8(6), uint8(0), uint8(5), uint16(3), uint64(0), uint8(0), uint8(0), uint8(1), uint8(2), uint64(0o7654321), []byte{0, 0x3c, 1, 0, 0xff, 0x7b, 0, 0x80, 0, 0xfc})
	f.Add(uint8(10), uint8(2), uint8(3), uint16(0), math.Float64bits(-0.3), uint8(0), uint8(0), uint8(3), uint8(1), uint64(0o12), []byte{0x7e, 0x7f, 0x80, 1, 0xfe, 8})
	f.Add(uint8(4), uint8(1), uint8(2), uint16(0), math.Float64bits(3e18), uint8(6), uint8(0), uint8(2), uint8(3), uint64(1), []byte("0123456789abcdef0123456789abcdef"))
	f.Add(uint8(9), uint8(0), uint8(1), uint16(2), uint64(0), uint8(1), uint8(1), uint8(2), uint8(0), uint64(9), []byte("a narrow and a wide source, summed to a wide output"))
	f.Add(uint8(11), uint8(3), uint8(0), uint16(0), uint64(0), uint8(2), uint8(1), uint8(0), uint8(1), uint64(0), []byte{0, 0, 0x70, 0x47, 1, 0, 0xc0, 0x7f, 0xff, 0xff, 0x6f, 0x37})
	f.Fuzz(func(t *testing.T, dtype, op, sources uint8, divisor uint16, scale uint64, flags, wide, dst, dst2 uint8, offsets uint64, data []byte) {
		n := int(sources%12) + 1
		s := Spec{DType: DType(dtype % 12), Op: Op(op % 4), StreamDst: flags&2 != 0, StreamDst2: flags&4 != 0}
		if s.Op == Sum {
			s.Divisor = int(divisor)
		}
		if accumulatesWide(s.DType) {
			s.Wide, s.WideSources = flags&1 != 0, int(wide)%(n+1)
		}
		r := reduction{spec: s}
		r.count, r.srcs = takeSources(s, n, data)
		where := hosts(s, n)
		r.dst = where[int(dst)%len(where)]
		where = append(where, none)
		r.dst2 = where[int(dst2)%len(where)]
		for j := range n {
			if scale != 0 {
				r.scales = append(r.scales, math.Float64frombits(scale)*float64(j+1))
			}
		}
		for j := range n + 2 {
			r.offsets = append(r.offsets, int(bits.RotateLeft64(offsets, -5*j)&(lineBytes-1)))
		}
		for _, b := range Backends() {
			if err := r.check(b); err != nil {
				t.Fatalf("%s: %+v: %v", b, r, err)
			}
		}
	})
}

// takeSources cuts data into n sources of as many elements as it has for all of them.
func takeSources(s Spec, n int, data []byte) (count int, srcs [][]byte) {
	all := 0
	for j := range n {
		all += sourceType(s, j, n).Size()
	}
	count = len(data) / all
	for j := range n {
		size := count * sourceType(s, j, n).Size()
		srcs = append(srcs, data[:size:size])
		data = data[size:]
	}
	return count, srcs
}
