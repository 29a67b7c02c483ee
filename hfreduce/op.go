// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"fmt"
	"math"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// Op is a reduction operator. The zero value is Sum. Ops are comparable values.
type Op struct {
	kind   opKind
	factor float64
}

type opKind uint8

const (
	opSum opKind = iota // the numbers are NCCL's (ncclRedOp_t)
	opProd
	opMax
	opMin
	opAvg
	opPreMulSum
)

// The operators without a parameter. NaN propagates through all of them; integers wrap; Avg divides the sum by the
// number of ranks before it is rounded (integers: towards zero). Between nodes averages of fp16 and fp8 travel as means of the ranks
// that they cover, of other types as sums: so no average is infinite, or has lost the bits of small numbers, that could be told as
// what it is.
var (
	Sum  = Op{kind: opSum}
	Prod = Op{kind: opProd}
	Max  = Op{kind: opMax}
	Min  = Op{kind: opMin}
	Avg  = Op{kind: opAvg}
)

// PreMulSum returns the operator that multiplies this rank's input by factor and sums the products; each rank may give
// its own factor. The product is taken in the type that the sum is taken in (fp32 for 16- and 8-bit floats), so it is
// not rounded by itself. Integer types need an integral factor.
func PreMulSum(factor float64) Op { return Op{kind: opPreMulSum, factor: factor} }

// String returns nccl-tests' name of the operator: "sum", "prod", "max", "min", "avg" or "mulsum".
func (o Op) String() string {
	switch o.kind {
	case opSum:
		return "sum"
	case opProd:
		return "prod"
	case opMax:
		return "max"
	case opMin:
		return "min"
	case opAvg:
		return "avg"
	case opPreMulSum:
		return "mulsum"
	}
	return fmt.Sprintf("Op(%d)", o.kind)
}

// check reports whether the operator is defined for the data type.
func (o Op) check(d DataType) error {
	if o.kind > opPreMulSum {
		return invalidf("unknown operator %v; use Sum, Prod, Max, Min, Avg or PreMulSum", o)
	}
	if o.kind != opPreMulSum {
		return nil
	}
	if math.IsNaN(o.factor) || math.IsInf(o.factor, 0) {
		return invalidf("PreMulSum factor %v is not finite", o.factor)
	}
	if d != TypeFloat64 && d.float() && math.IsInf(float64(float32(o.factor)), 0) {
		return invalidf("PreMulSum factor %v is too large for fp32, in which %v is multiplied", o.factor, d)
	}
	if !d.float() && (o.factor != math.Trunc(o.factor) || math.Abs(o.factor) > 1<<53) {
		return invalidf("PreMulSum factor %v is not an integer of at most 2^53, which %v needs", o.factor, d)
	}
	return nil
}

// float reports whether d is a floating-point type.
func (d DataType) float() bool {
	switch d {
	case TypeFloat16, TypeFloat32, TypeFloat64, TypeBFloat16, TypeFloat8E4M3, TypeFloat8E5M2:
		return true
	}
	return false
}

// kernelOp returns the operator of the reduction kernel: Avg and PreMulSum are sums with a divisor or scales.
func (o Op) kernelOp() kernel.Op {
	switch o.kind {
	case opProd:
		return kernel.Prod
	case opMax:
		return kernel.Max
	case opMin:
		return kernel.Min
	}
	return kernel.Sum
}
