// SPDX-License-Identifier: Apache-2.0

package kernel

// reduceSIMD runs what b has kernels for and reports whether it has. What is left to the generic backend is rare: all but
// sums of scaled sources or with float32 on either side, and more than MaxSources of scaled or narrow ones, unless these are
// plain sums.
func reduceSIMD(b Backend, s *Spec, dst, dst2 []byte, srcs [][]byte, scales []float64) bool {
	if s.Wide && s.WideSources == len(srcs) { // a reduction of float32, and nothing else
		float32s := *s
		float32s.DType, float32s.Wide, float32s.WideSources = Float32, false, 0
		s = &float32s
	}
	many, divided := len(srcs) > MaxSources, s.Divisor > 1 && !s.DType.float()
	wide := s.Wide || s.WideSources > 0 || many && s.DType.narrow() && s.Op <= Prod
	switch {
	case scales != nil && (s.Op != Sum || many || divided || wide), wide && s.Op != Sum:
		return false
	case wide:
		reduceWide(b, s, dst, dst2, srcs)
	case many || divided:
		reduceBlocks(b, s, dst, dst2, srcs)
	default:
		reduceFamily(b, s.family(scales), s, dst, dst2, srcs, scales)
	}
	return true
}

// streamSource copies src to dst with non-temporal stores, as a sum of one source, and reports whether b can.
func (b Backend) streamSource(dst, src []byte) bool {
	if b == Generic {
		return false
	}
	s, srcs := Spec{DType: Uint8, StreamDst: true}, [1][]byte{src}
	reduceFamily(b, familySum, &s, dst, nil, srcs[:], nil)
	return true
}

// family returns the family of kernels that reduce elements of one type.
func (s *Spec) family(scales []float64) int {
	switch {
	case scales != nil:
		return familyScaled
	case s.Op == Prod:
		return familyProd
	case s.Op == Max:
		return familyMax
	case s.Op == Min:
		return familyMin
	}
	return familySum
}

// reduceBlocks reduces in blocks that stay in the first-level cache: more than MaxSources in groups, each with what the last
// one left as its first source; and integers that are divided afterwards.
func reduceBlocks(b Backend, s *Spec, dst, dst2 []byte, srcs [][]byte) {
	var acc [blockBytes]byte
	var v vectors
	v.init(b, s.family(nil), s.DType)
	last := v
	var f factors
	if s.DType.float() {
		last.mode |= f.setDivisor(s.DType, s.Divisor)
		last.factors = &f
	}
	for lo := 0; lo < len(dst); lo += blockBytes {
		hi := min(lo+blockBytes, len(dst))
		var part [MaxSources][]byte
		n := slice(part[:], srcs, lo, hi)
		for rest := srcs[n:]; len(rest) > 0; rest = rest[n-1:] {
			v.run(acc[:hi-lo], nil, part[:n])
			part[0] = acc[:hi-lo]
			n = 1 + slice(part[1:], rest, lo, hi)
		}
		last.run(dst[lo:hi], nil, part[:n])
		if !s.DType.float() {
			divideBytes(s, dst[lo:hi])
		}
		if dst2 != nil {
			copy(dst2[lo:hi], dst[lo:hi])
		}
	}
}

// reduceWide sums with float32 as sources, as output or between groups of sources.
func reduceWide(b Backend, s *Spec, dst, dst2 []byte, srcs [][]byte) {
	switch n := len(srcs); {
	case s.WideSources == 0 && n <= MaxSources:
		reduceFamily(b, familyWiden, s, dst, dst2, srcs, nil)
	case s.WideSources == n && n <= MaxSources:
		reduceFamily(b, familyNarrow, s, dst, dst2, srcs, nil)
	default:
		reduceMixed(b, s, dst, dst2, srcs)
	}
}

// reduceFamily runs one kernel.
func reduceFamily(b Backend, family int, s *Spec, dst, dst2 []byte, srcs [][]byte, scales []float64) {
	var v vectors
	v.init(b, family, s.DType)
	v.setStream(s)
	if scales != nil || s.Divisor > 1 {
		var f factors
		f.setScales(s.DType, scales)
		v.mode |= f.setDivisor(s.DType, s.Divisor)
		v.factors = &f
	}
	v.run(dst, dst2, srcs)
}

// mixedElems is the number of elements of reduceMixed's blocks.
const mixedElems = 256

// mixedBlock is a block of float32.
type mixedBlock [mixedElems * 4]byte

// reduceMixed sums in blocks: the first narrow sources become a float32 block, to which the others are added in groups,
// narrow ones each after having been widened into a block of its own.
func reduceMixed(b Backend, s *Spec, dst, dst2 []byte, srcs [][]byte) {
	var acc mixedBlock
	var widened [MaxSources]mixedBlock
	var widen, add, last vectors
	widen.init(b, familyWiden, s.DType)
	add.init(b, familySum, Float32)
	last.init(b, familyNarrow, s.DType)
	if s.Wide {
		last = add
	}
	var f factors
	last.mode |= f.setDivisor(Float32, s.Divisor)
	last.factors = &f
	last.setStream(s)
	narrow, size, out, wide := len(srcs)-s.WideSources, s.DType.Size(), s.outSize(), Float32.Size()
	for count, lo := len(dst)/out, 0; lo < count; lo += mixedElems {
		hi := min(lo+mixedElems, count)
		var part [MaxSources][]byte
		first := slice(part[:], srcs[:narrow], lo*size, hi*size)
		n := 0
		if first > 0 {
			widen.run(acc[:(hi-lo)*wide], nil, part[:first])
			part[0], n = acc[:(hi-lo)*wide], 1
		}
		for j := first; j < len(srcs); j++ {
			if n == MaxSources {
				add.run(acc[:(hi-lo)*wide], nil, part[:n])
				part[0], n = acc[:(hi-lo)*wide], 1
			}
			if j >= narrow {
				part[n] = srcs[j][lo*wide : hi*wide]
			} else {
				one := [1][]byte{srcs[j][lo*size : hi*size]}
				part[n] = widened[n][:(hi-lo)*wide]
				widen.run(part[n], nil, one[:])
			}
			n++
		}
		to2 := dst2
		if to2 != nil {
			to2 = dst2[lo*out : hi*out]
		}
		last.run(dst[lo*out:hi*out], to2, part[:n])
	}
}

// slice puts bytes [lo,hi) of as many of srcs as fit into part and returns their number.
func slice(part, srcs [][]byte, lo, hi int) int {
	n := min(len(part), len(srcs))
	for j, src := range srcs[:n] {
		part[j] = src[lo:hi]
	}
	return n
}

// divideBytes divides the elements of d, integers.
func divideBytes(s *Spec, d []byte) {
	switch s.DType {
	case Int8:
		divide(*s, view[int8](d))
	case Uint8:
		divide(*s, view[uint8](d))
	case Int32:
		divide(*s, view[int32](d))
	case Uint32:
		divide(*s, view[uint32](d))
	case Int64:
		divide(*s, view[int64](d))
	case Uint64:
		divide(*s, view[uint64](d))
	}
}
