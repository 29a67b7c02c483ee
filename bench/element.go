// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/binary"
	"math"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// format describes how a data type represents numbers, as far as the choice of exactly representable values needs it.
type format struct {
	float     bool
	signed    bool // integers only
	bits      int  // of an element
	precision int  // floats: significant bits; all integers up to 2^precision are representable
	exponents int  // floats: 2^-exponents to 2^exponents are normal numbers, with room for one mantissa above
	factors   int  // floats: number of different factors of MulSum
}

func formatOf(d hfreduce.DataType) format {
	switch d {
	case hfreduce.TypeFloat16:
		return format{float: true, bits: 16, precision: 11, exponents: 14, factors: 4}
	case hfreduce.TypeBFloat16:
		return format{float: true, bits: 16, precision: 8, exponents: 64, factors: 64}
	case hfreduce.TypeFloat8E4M3:
		return format{float: true, bits: 8, precision: 4, exponents: 6, factors: 4}
	case hfreduce.TypeFloat8E5M2:
		return format{float: true, bits: 8, precision: 3, exponents: 14, factors: 4}
	case hfreduce.TypeFloat32:
		return format{float: true, bits: 32, precision: 24, exponents: 64, factors: 64}
	case hfreduce.TypeFloat64:
		return format{float: true, bits: 64, precision: 53, exponents: 64, factors: 64}
	}
	signed := d == hfreduce.TypeInt8 || d == hfreduce.TypeInt32 || d == hfreduce.TypeInt64
	return format{signed: signed, bits: 8 * d.Size()}
}

// encode returns the bits of a floating-point number in type d, rounded to nearest even.
func encode(d hfreduce.DataType, v float64) uint64 {
	switch d {
	case hfreduce.TypeFloat64:
		return math.Float64bits(v)
	case hfreduce.TypeFloat32:
		return uint64(math.Float32bits(float32(v)))
	case hfreduce.TypeFloat16:
		return uint64(hfreduce.ToFloat16(float32(v)))
	case hfreduce.TypeBFloat16:
		return uint64(hfreduce.ToBFloat16(float32(v)))
	case hfreduce.TypeFloat8E4M3:
		return uint64(hfreduce.ToFloat8E4M3(float32(v)))
	}
	return uint64(hfreduce.ToFloat8E5M2(float32(v)))
}

// decode returns the value of the bits of a floating-point type.
func decode(d hfreduce.DataType, bits uint64) float64 {
	switch d {
	case hfreduce.TypeFloat64:
		return math.Float64frombits(bits)
	case hfreduce.TypeFloat32:
		return float64(math.Float32frombits(uint32(bits)))
	case hfreduce.TypeFloat16:
		return float64(hfreduce.Float16(bits).Float32())
	case hfreduce.TypeBFloat16:
		return float64(hfreduce.BFloat16(bits).Float32())
	case hfreduce.TypeFloat8E4M3:
		return float64(hfreduce.Float8E4M3(bits).Float32())
	}
	return float64(hfreduce.Float8E5M2(bits).Float32())
}

// put writes the lower size bytes of an element in this machine's byte order.
func put(b []byte, size int, bits uint64) {
	switch size {
	case 1:
		b[0] = byte(bits)
	case 2:
		binary.NativeEndian.PutUint16(b, uint16(bits))
	case 4:
		binary.NativeEndian.PutUint32(b, uint32(bits))
	case 8:
		binary.NativeEndian.PutUint64(b, bits)
	}
}

// get reads an element that put wrote.
func get(b []byte, size int) uint64 {
	switch size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.NativeEndian.Uint16(b))
	case 4:
		return uint64(binary.NativeEndian.Uint32(b))
	}
	return binary.NativeEndian.Uint64(b)
}

// units returns how many representable numbers lie between two floating-point numbers of the given width, in units in
// the last place.
func units(a, b uint64, bits int) uint64 {
	x, y := ordered(a, bits), ordered(b, bits)
	if x > y {
		x, y = y, x
	}
	return uint64(y) - uint64(x)
}

// ordered maps sign-magnitude bits to integers in the order of the numbers.
func ordered(v uint64, bits int) int64 {
	magnitude := int64(v &^ (1 << (bits - 1)))
	if v>>(bits-1)&1 == 1 {
		return -magnitude
	}
	return magnitude
}
