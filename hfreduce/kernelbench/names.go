// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"fmt"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// Op is an operator. It is not hfreduce.Op, because MulSum scales each source by a factor of its own.
type Op uint8

// The operators.
const (
	Sum Op = iota
	Prod
	Max
	Min
	Avg    // the sum divided by the number of sources
	MulSum // the sum of the sources, each scaled
)

var opNames = [...]string{Sum: "sum", Prod: "prod", Max: "max", Min: "min", Avg: "avg", MulSum: "mulsum"}

// Ops returns all operators.
func Ops() []Op { return []Op{Sum, Prod, Max, Min, Avg, MulSum} }

// String returns nccl-tests' name.
func (o Op) String() string { return nameOf(o, opNames[:]) }

// ParseOps reads an operator's name, or "all".
func ParseOps(s string) ([]Op, error) { return parse("operator", s, Ops()) }

// Stores says which kinds of stores are measured.
type Stores uint8

// The choices of stores. A stream is non-temporal: it goes past the caches. The portable kernels have plain stores only.
const (
	AutoStores   Stores = iota // both for the largest working set, plain for all others
	PlainStores                //
	StreamStores               //
	BothStores                 //
)

var storesNames = [...]string{AutoStores: "auto", PlainStores: "plain", StreamStores: "stream", BothStores: "both"}

// String returns the name.
func (s Stores) String() string { return nameOf(s, storesNames[:]) }

// ParseStores reads the name of a choice of stores.
func ParseStores(s string) (Stores, error) {
	return parseOne("kind of stores", s, []Stores{AutoStores, PlainStores, StreamStores, BothStores})
}

// Variant is a kind of output.
type Variant uint8

// The kinds of output.
const (
	PlainOut  Variant = iota // one, of the sources' type
	WideOut                  // one, float32, for floating-point types of 8 and 16 bits only
	SecondOut                // two, both of the sources' type
)

var variantNames = [...]string{PlainOut: "plain", WideOut: "wide", SecondOut: "second"}

// Variants returns all kinds of output.
func Variants() []Variant { return []Variant{PlainOut, WideOut, SecondOut} }

// String returns the name.
func (v Variant) String() string { return nameOf(v, variantNames[:]) }

// ParseVariants reads the name of a kind of output, or "all".
func ParseVariants(s string) ([]Variant, error) { return parse("kind of output", s, Variants()) }

// ParseTypes reads nccl-tests' name of a data type, or "all".
func ParseTypes(s string) ([]hfreduce.DataType, error) {
	return parse("data type", s, hfreduce.DataTypes())
}

// Backends returns the names of the backends that this machine can run, the fastest last.
func Backends() []string {
	var names []string
	for _, b := range kernel.Backends() {
		names = append(names, b.String())
	}
	return names
}

// ParseBackends reads the name of a backend that this machine can run, or "all".
func ParseBackends(s string) ([]string, error) {
	all, err := parse("backend", s, kernel.Backends())
	if err != nil {
		return nil, fmt.Errorf("%w; this machine has no other", err)
	}
	var names []string
	for _, b := range all {
		names = append(names, b.String())
	}
	return names, nil
}

// nameOf returns the name of a constant, which callers from outside may have made up.
func nameOf[T ~uint8](v T, names []string) string {
	if int(v) >= len(names) {
		return fmt.Sprintf("%T(%d)", v, uint8(v))
	}
	return names[v]
}

// parse reads the name of one of all, or "all".
func parse[T fmt.Stringer](what, s string, all []T) ([]T, error) {
	if s == "all" {
		return all, nil
	}
	for _, v := range all {
		if v.String() == s {
			return []T{v}, nil
		}
	}
	return nil, fmt.Errorf("unknown %s %q; use %v, or all", what, s, all)
}

// parseOne reads the name of one of all.
func parseOne[T fmt.Stringer](what, s string, all []T) (T, error) {
	for _, v := range all {
		if v.String() == s {
			return v, nil
		}
	}
	var none T
	return none, fmt.Errorf("unknown %s %q; use one of %v", what, s, all)
}
