// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"math"
	"math/big"
)

// The reference computes one element at a time and shares no code with the package: formats are taken apart by their
// definition and rounding is a search for the nearest value (format_test.go), float32 arithmetic is done in float64 (whose
// 53 bits make rounding twice harmless) and float64 arithmetic in math/big.

// sourceType returns the type of the elements of source j of n.
func sourceType(s Spec, j, n int) DType {
	if n-j <= s.WideSources {
		return Float32
	}
	return s.DType
}

// outputType returns the type of the elements of the outputs.
func outputType(s Spec) DType {
	if s.Wide {
		return Float32
	}
	return s.DType
}

// copies reports whether Reduce copies its only source.
func copies(s Spec, n int, scales []float64) bool {
	return n == 1 && scales == nil && s.Divisor <= 1 && sourceType(s, 0, 1) == outputType(s)
}

// refElement returns the bits that Reduce must write for one element of the given bits.
func refElement(s Spec, bits []uint64, scales []float64) uint64 {
	if copies(s, len(bits), scales) {
		return bits[0]
	}
	switch s.DType {
	case Float64:
		return math.Float64bits(reduceFloats(s, bits, scales, exact))
	case Float32, Float16, BFloat16, Float8E4M3, Float8E5M2:
		return encodeFloat(outputType(s), reduceFloats(s, bits, scales, inFloat32))
	}
	return reduceIntegers(s, bits, scales)
}

func decodeFloat(t DType, b uint64) float64 {
	switch t {
	case Float64:
		return math.Float64frombits(b)
	case Float32:
		return float64(math.Float32frombits(uint32(b)))
	}
	return formats[t].decode(uint32(b))
}

// encodeFloat rounds v, which is a float32, to t.
func encodeFloat(t DType, v float64) uint64 {
	if t == Float32 {
		return uint64(math.Float32bits(float32(v)))
	}
	return uint64(formats[t].encode(v))
}

// reduceFloats folds values with compute, which performs one rounded operation: + * /.
func reduceFloats(s Spec, bits []uint64, scales []float64, compute func(op byte, a, b float64) float64) float64 {
	acc := 0.0
	for j, b := range bits {
		v := decodeFloat(sourceType(s, j, len(bits)), b)
		if scales != nil {
			v = compute('*', v, scales[j])
		}
		switch {
		case j == 0:
			acc = v
		case s.Op == Sum:
			acc = compute('+', acc, v)
		case s.Op == Prod:
			acc = compute('*', acc, v)
		case math.IsNaN(acc) || math.IsNaN(v):
			acc = math.NaN()
		case acc == v: // zeros may differ in sign
			if math.Signbit(v) == (s.Op == Min) {
				acc = v
			}
		case (acc < v) == (s.Op == Max):
			acc = v
		}
	}
	if s.Divisor > 1 {
		acc = compute('/', acc, float64(s.Divisor))
	}
	return acc
}

// inFloat32 performs one operation on float32 values, b being rounded to one first.
func inFloat32(op byte, a, b float64) float64 {
	b = float64(float32(b))
	switch op {
	case '+':
		a += b
	case '*':
		a *= b
	case '/':
		a /= b
	}
	return float64(float32(a))
}

// exact performs one operation with unlimited precision and rounds to float64. A quotient gets 200 bits: it comes no closer
// to the middle of two float64 than the 107th, unless it is one.
func exact(op byte, a, b float64) float64 {
	special := func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }
	if special(a) || special(b) {
		return map[byte]float64{'+': a + b, '*': a * b, '/': a / b}[op]
	}
	z := new(big.Float)
	x, y := big.NewFloat(a), big.NewFloat(b)
	switch op {
	case '+':
		z.SetPrec(2200).Add(x, y)
	case '*':
		z.SetPrec(2200).Mul(x, y)
	case '/':
		z.SetPrec(200).Quo(x, y)
	}
	v, _ := z.Float64()
	return v
}

// reduceIntegers folds in 64 bits, or without limit where that matters, and cuts the result to the type's width.
func reduceIntegers(s Spec, bits []uint64, scales []float64) uint64 {
	width := uint(8 * s.DType.Size())
	signed := s.DType == Int8 || s.DType == Int32 || s.DType == Int64
	value := func(b uint64) *big.Int { // of the low bits
		v := new(big.Int).SetUint64(b << (64 - width) >> (64 - width))
		if signed && v.Bit(int(width)-1) == 1 {
			v.Sub(v, new(big.Int).Lsh(big.NewInt(1), width))
		}
		return v
	}
	acc := uint64(0)
	for j, b := range bits {
		if scales != nil && !math.IsNaN(scales[j]) {
			k, _ := big.NewFloat(scales[j]).Int64()
			b *= uint64(k)
		} else if scales != nil {
			b = 0
		}
		switch {
		case j == 0:
			acc = b
		case s.Op == Sum:
			acc += b
		case s.Op == Prod:
			acc *= b
		case (value(b).Cmp(value(acc)) > 0) == (s.Op == Max):
			acc = b
		}
	}
	if s.Divisor > 1 {
		q := new(big.Int).Quo(value(acc), big.NewInt(int64(s.Divisor)))
		acc = new(big.Int).And(q, new(big.Int).SetUint64(math.MaxUint64)).Uint64()
	}
	return acc << (64 - width) >> (64 - width)
}

// element returns the bits of element i of b.
func element(t DType, b []byte, i int) uint64 {
	b = b[i*t.Size() : (i+1)*t.Size()]
	switch t.Size() {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.NativeEndian.Uint16(b))
	case 4:
		return uint64(binary.NativeEndian.Uint32(b))
	}
	return binary.NativeEndian.Uint64(b)
}

// sameElement reports whether two elements have the same bits or are both NaN.
func sameElement(t DType, a, b uint64) bool { return a == b || isNaN(t, a) && isNaN(t, b) }

func isNaN(t DType, b uint64) bool { return formats[t] != nil && math.IsNaN(decodeFloat(t, b)) }
