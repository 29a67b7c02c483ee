// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"fmt"
	"reflect"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// DataType is the type of a buffer's elements. The numbers are NCCL's (ncclDataType_t).
type DataType uint8

// The element types. Float8E4M3 and Float8E5M2 are the OCP 8-bit formats.
const (
	TypeInt8       = DataType(kernel.Int8)
	TypeUint8      = DataType(kernel.Uint8)
	TypeInt32      = DataType(kernel.Int32)
	TypeUint32     = DataType(kernel.Uint32)
	TypeInt64      = DataType(kernel.Int64)
	TypeUint64     = DataType(kernel.Uint64)
	TypeFloat16    = DataType(kernel.Float16)
	TypeFloat32    = DataType(kernel.Float32)
	TypeFloat64    = DataType(kernel.Float64)
	TypeBFloat16   = DataType(kernel.BFloat16)
	TypeFloat8E4M3 = DataType(kernel.Float8E4M3)
	TypeFloat8E5M2 = DataType(kernel.Float8E5M2)
)

// DataTypes lists every DataType, in the order in which nccl-tests runs them.
func DataTypes() []DataType {
	return []DataType{TypeInt8, TypeUint8, TypeInt32, TypeUint32, TypeInt64, TypeUint64,
		TypeFloat16, TypeFloat32, TypeFloat64, TypeBFloat16, TypeFloat8E4M3, TypeFloat8E5M2}
}

// Size returns the bytes of one element, 0 for an unknown type.
func (d DataType) Size() int {
	if !d.Valid() {
		return 0
	}
	return kernel.DType(d).Size()
}

// narrowRange reports whether a sum of ordinary numbers over many ranks may be too large for the type.
func (d DataType) narrowRange() bool {
	return d == TypeFloat16 || d == TypeFloat8E4M3 || d == TypeFloat8E5M2
}

// String returns nccl-tests' name of the type: "int8", "half", "float", "bfloat16", "f8e4m3", ...
func (d DataType) String() string {
	if !d.Valid() {
		return fmt.Sprintf("DataType(%d)", uint8(d))
	}
	return kernel.DType(d).String()
}

// Valid reports whether d is one of the constants of this package.
func (d DataType) Valid() bool { return kernel.DType(d).Valid() }

// ParseDataType returns the type with the given nccl-tests name.
func ParseDataType(name string) (DataType, error) {
	for _, d := range DataTypes() {
		if d.String() == name {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%w: unknown data type %q; known are %v", ErrInvalid, name, DataTypes())
}

// Float16 holds the bits of an IEEE 754 binary16 number.
type Float16 uint16

// BFloat16 holds the bits of a bfloat16 number (the upper half of a binary32).
type BFloat16 uint16

// Float8E4M3 holds the bits of an OCP FP8 number with 4 exponent and 3 mantissa bits (no infinity).
type Float8E4M3 uint8

// Float8E5M2 holds the bits of an OCP FP8 number with 5 exponent and 2 mantissa bits.
type Float8E5M2 uint8

// ToFloat16 rounds f to the nearest Float16, ties to even.
func ToFloat16(f float32) Float16 { return Float16(kernel.Float32ToFloat16(f)) }

// Float32 returns the exact value of h.
func (h Float16) Float32() float32 { return kernel.Float16ToFloat32(uint16(h)) }

// ToBFloat16 rounds f to the nearest BFloat16, ties to even.
func ToBFloat16(f float32) BFloat16 { return BFloat16(kernel.Float32ToBFloat16(f)) }

// Float32 returns the exact value of b.
func (b BFloat16) Float32() float32 { return kernel.BFloat16ToFloat32(uint16(b)) }

// ToFloat8E4M3 rounds f to the nearest Float8E4M3, ties to even; what overflows becomes NaN.
func ToFloat8E4M3(f float32) Float8E4M3 { return Float8E4M3(kernel.Float32ToFloat8E4M3(f)) }

// Float32 returns the exact value of f.
func (f Float8E4M3) Float32() float32 { return kernel.Float8E4M3ToFloat32(uint8(f)) }

// ToFloat8E5M2 rounds f to the nearest Float8E5M2, ties to even; what overflows becomes infinite.
func ToFloat8E5M2(f float32) Float8E5M2 { return Float8E5M2(kernel.Float32ToFloat8E5M2(f)) }

// Float32 returns the exact value of f.
func (f Float8E5M2) Float32() float32 { return kernel.Float8E5M2ToFloat32(uint8(f)) }

// Element is a Go type whose slices can be reduced.
type Element interface {
	~int8 | ~uint8 | ~int32 | ~uint32 | ~int64 | ~uint64 | ~float32 | ~float64 | Float16 | BFloat16
}

// TypeOf returns the DataType of T. Float8E4M3 and Float8E5M2 are told from uint8 by their type.
func TypeOf[T Element]() DataType {
	var zero T
	switch any(zero).(type) {
	case Float16:
		return TypeFloat16
	case BFloat16:
		return TypeBFloat16
	case Float8E4M3:
		return TypeFloat8E4M3
	case Float8E5M2:
		return TypeFloat8E5M2
	case float32:
		return TypeFloat32
	}
	switch reflect.TypeFor[T]().Kind() {
	case reflect.Int8:
		return TypeInt8
	case reflect.Uint8:
		return TypeUint8
	case reflect.Int32:
		return TypeInt32
	case reflect.Uint32:
		return TypeUint32
	case reflect.Int64:
		return TypeInt64
	case reflect.Uint64:
		return TypeUint64
	case reflect.Float64:
		return TypeFloat64
	}
	return TypeFloat32
}
