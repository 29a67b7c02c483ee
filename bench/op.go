// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// Op is an operator under test. It is not hfreduce.Op because the factor of MulSum is each rank's own.
type Op uint8

// The operators, in the order in which "all" runs them. None is that of collectives which only copy.
const (
	Sum Op = iota
	Prod
	Max
	Min
	Avg
	MulSum
	None
)

var opNames = [...]string{Sum: "sum", Prod: "prod", Max: "max", Min: "min", Avg: "avg", MulSum: "mulsum", None: "none"}

// Ops returns all operators.
func Ops() []Op { return []Op{Sum, Prod, Max, Min, Avg, MulSum} }

// String returns nccl-tests' name.
func (o Op) String() string { return opNames[o] }

// ParseOps reads an operator's name or "all".
func ParseOps(s string) ([]Op, error) {
	if s == "all" {
		return Ops(), nil
	}
	for _, o := range Ops() {
		if o.String() == s {
			return []Op{o}, nil
		}
	}
	return nil, fmt.Errorf("unknown operator %q; use sum, prod, min, max, avg, mulsum or all", s)
}

// ParseTypes reads a data type's name or "all".
func ParseTypes(s string) ([]hfreduce.DataType, error) {
	if s == "all" {
		return hfreduce.DataTypes(), nil
	}
	d, err := hfreduce.ParseDataType(s)
	if err != nil {
		return nil, fmt.Errorf("unknown data type %q; use one of %v or all", s, hfreduce.DataTypes())
	}
	return []hfreduce.DataType{d}, nil
}

// public returns the operator that this rank passes to the collective.
func (o Op) public(d hfreduce.DataType, rank int) hfreduce.Op {
	switch o {
	case Prod:
		return hfreduce.Prod
	case Max:
		return hfreduce.Max
	case Min:
		return hfreduce.Min
	case Avg:
		return hfreduce.Avg
	case MulSum:
		return hfreduce.PreMulSum(mulSumFactor(d, rank))
	}
	return hfreduce.Sum
}
