// SPDX-License-Identifier: Apache-2.0

package kernel

// tinyBytes is the size of an output up to which plain Go computes what it can, instead of a kernel. Half of a call's time
// would go into the way to the kernel. The rest is waiting: what vector instructions have stored under a mask cannot be
// forwarded to a load, and small results are read again at once.
const tinyBytes = 32

// reduceTiny carries out short plain sums of types that accumulate in themselves, with the bits of every backend, and
// reports whether it has.
func (s *Spec) reduceTiny(dst []byte, srcs [][]byte) bool {
	if s.Op != Sum || s.Divisor > 1 || s.Wide || s.WideSources > 0 {
		return false
	}
	switch s.DType {
	case Int32, Uint32:
		addTiny[uint32](dst, srcs)
	case Int64, Uint64:
		addTiny[uint64](dst, srcs)
	case Float32:
		if !standardEnvironment() {
			return false
		}
		addTiny[float32](dst, srcs)
	case Float64:
		if !standardEnvironment() {
			return false
		}
		addTiny[float64](dst, srcs)
	default:
		return false
	}
	return true
}

// addTiny adds element by element: dst may be one of srcs.
func addTiny[T number](dst []byte, srcs [][]byte) {
	d, first, rest := view[T](dst), view[T](srcs[0]), srcs[1:]
	for i := range d {
		sum := first[i]
		for _, src := range rest {
			sum += view[T](src)[i]
		}
		d[i] = sum
	}
}
