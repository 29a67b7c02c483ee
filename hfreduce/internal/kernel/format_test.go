// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"math"
	"sort"
)

// format describes a binary floating-point format.
type format struct {
	expBits, manBits uint
	ocpNaN           bool      // E4M3: the topmost code is the only NaN and there is no infinity
	values           []float64 // of the positive codes, ascending, then the value the next code would have
}

// formats holds the floating-point formats by type, nil for integers. Read only.
var formats = [...]*format{
	Float16:    newFormat(5, 10, false),
	BFloat16:   newFormat(8, 7, false),
	Float8E4M3: newFormat(4, 3, true),
	Float8E5M2: newFormat(5, 2, false),
	Float32:    {expBits: 8, manBits: 23},
	Float64:    {expBits: 11, manBits: 52},
}

func newFormat(expBits, manBits uint, ocpNaN bool) *format {
	f := &format{expBits: expBits, manBits: manBits, ocpNaN: ocpNaN}
	for c := uint32(0); c <= f.overflow(); c++ {
		f.values = append(f.values, f.finite(c))
	}
	return f
}

// bias returns what is added to the exponent of a number.
func (f *format) bias() int { return 1<<(f.expBits-1) - 1 }

// overflow returns the positive code above the largest finite one.
func (f *format) overflow() uint32 {
	if f.ocpNaN {
		return 1<<(f.expBits+f.manBits) - 1
	}
	return (1<<f.expBits - 1) << f.manBits
}

// finite returns the value of a positive code as if the exponents went on for ever.
func (f *format) finite(c uint32) float64 {
	e, m := int(c>>f.manBits), float64(c&(1<<f.manBits-1))
	if e == 0 {
		return math.Ldexp(m, 1-f.bias()-int(f.manBits))
	}
	return math.Ldexp(m+float64(uint32(1)<<f.manBits), e-f.bias()-int(f.manBits))
}

// decode returns the value of a code.
func (f *format) decode(c uint32) float64 {
	sign := c >> (f.expBits + f.manBits)
	c &= 1<<(f.expBits+f.manBits) - 1
	v := math.NaN()
	switch {
	case c < f.overflow():
		v = f.values[c]
	case c == f.overflow() && !f.ocpNaN:
		v = math.Inf(1)
	}
	if sign != 0 {
		return math.Copysign(v, -1)
	}
	return v
}

// encode returns the code nearest to v, the even one of two. For NaN it returns the largest code.
func (f *format) encode(v float64) uint32 {
	sign := uint32(0)
	if math.Signbit(v) {
		sign = 1 << (f.expBits + f.manBits)
	}
	v = math.Abs(v)
	if math.IsNaN(v) || f.ocpNaN && math.IsInf(v, 0) {
		return sign | 1<<(f.expBits+f.manBits) - 1
	}
	over := f.overflow()
	above := uint32(sort.SearchFloat64s(f.values, v)) // the first code not below v
	switch {
	case above > over:
		return sign | over
	case above == 0 || f.values[above] == v:
		return sign | above
	}
	middle := (f.values[above-1] + f.values[above]) / 2
	if v < middle || v == middle && above%2 == 1 {
		above--
	}
	return sign | above
}
