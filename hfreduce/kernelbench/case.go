// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"fmt"
	"slices"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// subject is one case: what a line of the table is about.
type subject struct {
	size    int64 // working set, bytes
	dtype   hfreduce.DataType
	op      Op
	sources int
	variant Variant
	backend kernel.Backend
	stream  bool
}

// stores names the kind of stores.
func (s subject) stores() string {
	if s.stream {
		return StreamStores.String()
	}
	return PlainStores.String()
}

// String describes the case for progress and errors.
func (s subject) String() string {
	return fmt.Sprintf("%d B %s %s of %d, %s %s, %s output", s.size, s.dtype, s.op, s.sources, s.backend, s.stores(), s.variant)
}

// work is the case without that which must not change the result.
func (s subject) work() subject {
	s.backend, s.stream = kernel.Generic, false
	return s
}

// spec returns what the kernel is to compute.
func (s subject) spec() kernel.Spec {
	spec := kernel.Spec{
		DType: kernel.DType(s.dtype), Wide: s.variant == WideOut,
		StreamDst: s.stream, StreamDst2: s.stream && s.variant == SecondOut,
	}
	switch s.op {
	case Prod:
		spec.Op = kernel.Prod
	case Max:
		spec.Op = kernel.Max
	case Min:
		spec.Op = kernel.Min
	case Avg:
		spec.Divisor = s.sources
	}
	return spec
}

// scales returns the sources' factors, nil for none. They are small, so that sums stay ordinary numbers.
func (s subject) scales() []float64 {
	if s.op != MulSum {
		return nil
	}
	factors := make([]float64, s.sources)
	for i := range factors {
		factors[i] = float64(2 + i%2)
	}
	return factors
}

// valid reports whether there is such a case.
func (s subject) valid() bool {
	return s.spec().Validate() == nil && (!s.stream || hasStream(s.backend.String()))
}

// group is the cases that share their data, and so their rounds.
type group struct {
	size  int64
	dtype hfreduce.DataType
	data  fill
	cases []subject
}

// plan lists the cases of a valid configuration, in the order of the table.
func plan(c *Config) []group {
	var groups []group
	for _, size := range c.Sizes {
		for _, d := range c.Types {
			for _, prod := range [...]bool{false, true} {
				g := group{size: size, dtype: d, data: fillOf(d, prod), cases: casesOf(c, size, d, prod)}
				if len(g.cases) > 0 {
					groups = append(groups, g)
				}
			}
		}
	}
	return groups
}

// casesOf lists the cases of a group: products, or all but those.
func casesOf(c *Config, size int64, d hfreduce.DataType, prod bool) (cases []subject) {
	for _, op := range c.Ops {
		if (op == Prod) != prod {
			continue
		}
		for _, v := range c.Variants {
			for _, n := range c.Sources {
				for _, b := range kernel.Backends() {
					if !slices.Contains(c.Backends, b.String()) {
						continue
					}
					for _, stream := range c.streams(size) {
						if s := (subject{size, d, op, n, v, b, stream}); s.valid() {
							cases = append(cases, s)
						}
					}
				}
			}
		}
	}
	return cases
}

// streams returns the kinds of stores that a working set is measured with.
func (c *Config) streams(size int64) []bool {
	switch {
	case c.Stores == StreamStores:
		return []bool{true}
	case c.Stores == BothStores, c.Stores == AutoStores && size == slices.Max(c.Sizes):
		return []bool{false, true}
	}
	return []bool{false}
}
