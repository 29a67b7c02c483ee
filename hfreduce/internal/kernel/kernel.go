// SPDX-License-Identifier: Apache-2.0

// Package kernel reduces n buffers of host memory into one, in a single pass.
//
// It is the arithmetic of the library and nothing else: no goroutine, no lock, no allocation, no system call. A call goes
//
//	Spec.Reduce (checks, the copy of a single source; tiny.go for a few elements) → Backend.reduce (dispatch.go)
//	→ plan_amd64.go (which kernel, groups and blocks) → simd_amd64.go (alignment, tails, calls) → assembly, written by _asm
//	→ generic.go and its neighbours, for all that has no kernel
//
// Numbers. The sources are combined from left to right. int8, uint8, int32, uint32, int64, uint64 wrap; float and double are
// computed in their own type; half, bfloat16 and both float8 types are widened to float32, combined there over all sources
// and rounded once, to nearest even. Subnormal numbers are kept. Max and Min return NaN if any source is NaN and take -0 as
// less than +0. half, bfloat16 and f8e5m2 overflow to infinity; f8e4m3, which has none, overflows to NaN (the OCP FP8
// formats without saturation, as PyTorch converts; NCCL saturates). Scaling and dividing happen in the accumulating type, a
// product is rounded before it is added. Every backend gives the same bits, except for the sign and payload of a NaN, which
// follow the machine. Assembly computes in the standard floating-point environment, whatever the thread's is: a program may
// have it flush subnormal numbers, for instance.
package kernel

import "fmt"

// DType is an element type. The numbers are those of NCCL's ncclDataType_t.
type DType uint8

// The element types.
const (
	Int8       DType = 0
	Uint8      DType = 1
	Int32      DType = 2
	Uint32     DType = 3
	Int64      DType = 4
	Uint64     DType = 5
	Float16    DType = 6  // IEEE 754 binary16
	Float32    DType = 7  // IEEE 754 binary32
	Float64    DType = 8  // IEEE 754 binary64
	BFloat16   DType = 9  // the upper half of a binary32
	Float8E4M3 DType = 10 // OCP FP8 E4M3: no infinity, one NaN (of either sign), largest 448
	Float8E5M2 DType = 11 // OCP FP8 E5M2: as IEEE 754, largest 57344
)

// dtypes describes each DType, by number. Read only.
var dtypes = [...]struct {
	name  string
	shift uint8 // binary logarithm of the size in bytes
}{
	Int8: {"int8", 0}, Uint8: {"uint8", 0},
	Int32: {"int32", 2}, Uint32: {"uint32", 2},
	Int64: {"int64", 3}, Uint64: {"uint64", 3},
	Float16: {"half", 1}, Float32: {"float", 2}, Float64: {"double", 3}, BFloat16: {"bfloat16", 1},
	Float8E4M3: {"f8e4m3", 0}, Float8E5M2: {"f8e5m2", 0},
}

// Valid reports whether d is one of the element types.
func (d DType) Valid() bool { return int(d) < len(dtypes) }

// Size returns the bytes of one element, 0 if d is not valid.
func (d DType) Size() int {
	if !d.Valid() {
		return 0
	}
	return 1 << dtypes[d].shift
}

// String returns the name nccl-tests gives the type, such as "half" or "f8e4m3".
func (d DType) String() string {
	if !d.Valid() {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// Op is a reduction operator. The numbers are those of NCCL's ncclRedOp_t; its average is Sum with a Divisor.
type Op uint8

// The operators.
const (
	Sum  Op = 0
	Prod Op = 1
	Max  Op = 2
	Min  Op = 3
)

// opNames holds the operators' names, by number. Read only.
var opNames = [...]string{Sum: "sum", Prod: "prod", Max: "max", Min: "min"}

// Valid reports whether o is one of the operators.
func (o Op) Valid() bool { return int(o) < len(opNames) }

// String returns the name nccl-tests gives the operator, such as "sum".
func (o Op) String() string {
	if !o.Valid() {
		return fmt.Sprintf("Op(%d)", uint8(o))
	}
	return opNames[o]
}

// MaxSources is the number of sources up to which backends may unroll. Reduce takes any number; beyond this one it takes
// them in groups, with the same bits as result.
const MaxSources = 10

// Spec says what a reduction computes. The zero value sums int8.
type Spec struct {
	DType DType
	Op    Op
	// Divisor, if above 1, divides the sum before it is rounded to DType: exactly rounded division in the accumulating type
	// for the floating-point types, truncation towards zero of the (wrapped) sum for integers. Only with Sum.
	Divisor int
	// Wide leaves out the rounding: the outputs are float32, the accumulators of a DType of 8 or 16 bits. With WideSources,
	// this is how partial sums travel without losing bits on the way.
	Wide bool
	// WideSources is the number of sources, the last ones, that are float32 although DType is a floating-point type of 8 or
	// 16 bits.
	WideSources int
	// StreamDst and StreamDst2 ask for non-temporal stores to the output: faster where it exceeds the caches, and it does not
	// push out what is in them, but whoever reads it next reads memory. They change no bit of the result, and not every
	// backend can heed them.
	StreamDst, StreamDst2 bool
}

// Validate reports the first field of s that no kernel can carry out.
func (s Spec) Validate() error { return s.validate() }

// validate is Validate; calls within the package hand the Spec on by address, for it is large.
func (s *Spec) validate() error {
	switch {
	case !s.DType.Valid():
		return fmt.Errorf("kernel: unknown element type %d: use %d (%s) to %d (%s)", uint8(s.DType), Int8, Int8, Float8E5M2, Float8E5M2)
	case !s.Op.Valid():
		return fmt.Errorf("kernel: unknown operator %d: use %d (%s) to %d (%s)", uint8(s.Op), Sum, Sum, Min, Min)
	case s.Divisor < 0:
		return fmt.Errorf("kernel: negative divisor %d: use 0 or 1 for none", s.Divisor)
	case s.Divisor > 1 && s.Op != Sum:
		return fmt.Errorf("kernel: divisor %d with operator %s: only a sum can be divided", s.Divisor, s.Op)
	case s.WideSources < 0:
		return fmt.Errorf("kernel: negative number of wide sources %d", s.WideSources)
	case (s.Wide || s.WideSources > 0) && !s.DType.narrow():
		return fmt.Errorf("kernel: wide output or sources with %s: only floating-point types of 8 and 16 bits accumulate in float32", s.DType)
	}
	return nil
}

// float reports whether d is a floating-point type.
func (d DType) float() bool { return d >= Float16 }

// narrow reports whether d accumulates in float32 and is not float32 itself.
func (d DType) narrow() bool { return d >= Float16 && d != Float32 && d != Float64 }

// outShift returns the binary logarithm of the bytes of an output element.
func (s *Spec) outShift() uint8 {
	if s.Wide {
		return dtypes[Float32].shift
	}
	return dtypes[s.DType].shift
}

// outSize returns the bytes of an output element.
func (s *Spec) outSize() int { return 1 << s.outShift() }
