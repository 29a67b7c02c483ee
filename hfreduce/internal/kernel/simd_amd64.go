// SPDX-License-Identifier: Apache-2.0

package kernel

//go:generate go -C _asm run .

import (
	"math"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// Available reports whether this machine can run b.
func (b Backend) Available() bool {
	switch b {
	case Generic:
		return true
	case AVX2:
		return cpu.X86.HasAVX2 && cpu.X86.HasF16C && cpu.X86.HasFMA
	case AVX512:
		return AVX2.Available() && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL
	}
	return false
}

// prefer returns the backend and the kernel that stand in for kernel id of backend b over buffers of some size: others if this
// processor lacks an instruction, or does better with them.
func (b Backend) prefer(id kernelID, sources, bytes int) (Backend, kernelID) {
	if b != AVX512 {
		return b, id
	}
	if id.needsVBMI() && !cpu.X86.HasAVX512VBMI {
		return AVX2, id
	}
	switch id {
	case sumFloat8E4M3ID:
		if addsInSequence {
			return AVX512, pairedFloat8E4M3ID
		}
	case sumFloat8E5M2ID:
		if addsInSequence {
			return AVX512, pairedFloat8E5M2ID
		}
	case sumFloat16ID, scaledFloat16ID, prodFloat16ID, widenFloat16ID, narrowFloat16ID:
		// Two short conversions from and to binary16 take less time than a long one.
		if halvesVectors() {
			return AVX2, id
		}
	}
	// Without conversions memory decides. It flows faster in short steps, unless there are many streams from the caches.
	if halvesVectors() && !id.converts() && (bytes >= memoryBytes || bytes >= callBytes && sources <= 4) {
		return AVX2, id
	}
	return AVX512, id
}

// halvesVectors reports whether this processor runs instructions of 512 bits as two of 256, as Zen 4 does. That is the only
// one with bfloat16 and byte permutations that has none of the later VNNI instructions.
func halvesVectors() bool {
	return cpu.X86.HasAVX512BF16 && cpu.X86.HasAVX512VBMI && !cpu.X86.HasAVXVNNI
}

const (
	// memoryBytes is the size of a buffer that, with others, no cache holds.
	memoryBytes = 4 << 20
	// callBytes is the size of the largest buffer of one call of assembly: the scheduler cannot interrupt it, and a
	// garbage collection waits for it.
	callBytes = 128 << 10
	// unitBytes is what AVX2 kernels take at a time, in bytes of the narrower elements.
	unitBytes = 32
	// streamAlign is the alignment of non-temporal stores.
	streamAlign = 64
	// maxWiden is the largest ratio of the sizes of two elements in one call.
	maxWiden = 4
)

// vectors is the use of a kernel for up to MaxSources sources of one type.
type vectors struct {
	backend            Backend
	id                 kernelID
	srcShift, dstShift uint8 // binary logarithms of the bytes of an element
	mode               int   // without the number of sources
	factors            *factors
}

// init makes v the use of a kernel of a family for type t.
func (v *vectors) init(b Backend, family int, t DType) {
	v.backend, v.id, v.factors = b, kernelIDs[family][t], &noFactors
	v.srcShift, v.dstShift = dtypes[t].shift, dtypes[t].shift
	switch family {
	case familyWiden:
		v.dstShift = dtypes[Float32].shift
	case familyNarrow:
		v.srcShift = dtypes[Float32].shift
	}
}

// setStream asks for non-temporal stores.
func (v *vectors) setStream(s *Spec) {
	if s.StreamDst {
		v.mode |= modeStream
	}
	if s.StreamDst2 {
		v.mode |= modeStream2
	}
}

// factors holds, in 8 bytes each, what every source is multiplied with and, last, what the sum is multiplied with or divided
// by.
type factors [MaxSources + 1]uint64

// noFactors stands where a call has none, as kernels load them in any case. Read only.
var noFactors factors

// setScales sets the factors of all sources.
func (f *factors) setScales(t DType, scales []float64) {
	for j, by := range scales {
		switch {
		case t == Float64:
			f[j] = math.Float64bits(by)
		case t.float():
			f[j] = uint64(quietBits(float32(by)))
		default:
			f[j] = uint64(integerScale(by))
		}
	}
}

// quietBits returns the bits of f. Kernels count on the lower half of a NaN's being zero.
func quietBits(f float32) uint32 {
	if f != f {
		return 0x7fc00000
	}
	return math.Float32bits(f)
}

// setDivisor sets what the sum of a floating-point type is divided by and returns the bits of mode that say so. A power of
// two is multiplied with its inverse, which is faster and gives the same bits: both round the same number.
func (f *factors) setDivisor(t DType, divisor int) (mode int) {
	if divisor <= 1 {
		return 0
	}
	by := float64(divisor)
	if t != Float64 {
		by = float64(float32(divisor))
	}
	mode = modeDivide
	if fraction, _ := math.Frexp(by); fraction == 0.5 {
		mode, by = modeMultiply, 1/by
	}
	f[MaxSources] = math.Float64bits(by)
	if t != Float64 {
		f[MaxSources] = uint64(math.Float32bits(float32(by)))
	}
	return mode
}

// run runs the kernel over buffers of any length and alignment, in calls of callBytes at most.
func (v *vectors) run(dst, dst2 []byte, srcs [][]byte) {
	b, id := v.backend.prefer(v.id, len(srcs), len(dst))
	count, mode := len(dst)>>v.dstShift, v.mode|len(srcs)
	at, step := 0, callBytes>>max(v.srcShift, v.dstShift)
	if dst2 != nil {
		mode |= modeSecond | modeSpecial
	}
	if mode&(modeStream|modeStream2) != 0 {
		var head int
		mode, head = v.stream(mode, dst, dst2)
		if head = min(head, count); head > 0 {
			v.call(b, id, mode&^(modeStream|modeStream2), dst, dst2, srcs, 0, head)
			at = head
		}
	}
	for ; at < count; at += step {
		v.call(b, id, mode, dst, dst2, srcs, at, min(step, count-at))
	}
}

// stream leaves the non-temporal stores in mode that the alignment of the outputs allows. It returns how many elements stand
// before the first address to which they are possible.
func (v *vectors) stream(mode int, dst, dst2 []byte) (_, head int) {
	before := func(b []byte) int { return int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (streamAlign - 1)) }
	possible := func(b []byte) bool { return before(b)&(1<<v.dstShift-1) == 0 }
	if !possible(dst) {
		mode &^= modeStream
	}
	if dst2 == nil || !possible(dst2) || mode&modeStream != 0 && before(dst) != before(dst2) {
		mode &^= modeStream2
	}
	switch {
	case mode&modeStream != 0:
		return mode | modeSpecial, before(dst) >> v.dstShift
	case mode&modeStream2 != 0:
		return mode | modeSpecial, before(dst2) >> v.dstShift
	}
	return mode, 0
}

// call runs the kernel over elements [at, at+count).
func (v *vectors) call(b Backend, id kernelID, mode int, dst, dst2 []byte, srcs [][]byte, at, count int) {
	var from [MaxSources]*byte
	for j, src := range srcs {
		from[j] = address(src, at<<v.srcShift)
	}
	to, to2 := address(dst, at<<v.dstShift), (*byte)(nil)
	if dst2 != nil {
		to2 = address(dst2, at<<v.dstShift)
	}
	narrow := min(v.srcShift, v.dstShift)
	size := count << narrow
	if b == AVX512 {
		callAVX512(id, to, to2, &from[0], &v.factors[0], size, mode)
		return
	}
	rest := size & (unitBytes - 1)
	if size > rest {
		callAVX2(id, to, to2, &from[0], &v.factors[0], size-rest, mode)
	}
	if rest > 0 {
		at, count = at+(size-rest)>>narrow, rest>>narrow
		if v.srcShift == v.dstShift {
			var units [(MaxSources + 1) * unitBytes]byte
			v.rest(units[:], id, mode, dst, dst2, srcs, at, count)
		} else {
			var units [(MaxSources + 1) * unitBytes * maxWiden]byte
			v.rest(units[:], id, mode, dst, dst2, srcs, at, count)
		}
	}
}

// address returns the address of byte at of b.
func address(b []byte, at int) *byte {
	return (*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), at))
}

// rest runs an AVX2 kernel over less than a unit, on copies in units, which has room for one of the wider elements of each
// source and of the output.
func (v *vectors) rest(units []byte, id kernelID, mode int, dst, dst2 []byte, srcs [][]byte, at, count int) {
	var from [MaxSources]*byte
	unit := len(units) / (MaxSources + 1)
	for j, src := range srcs {
		copy(units[j*unit:], src[at<<v.srcShift:(at+count)<<v.srcShift])
		from[j] = &units[j*unit]
	}
	out := units[MaxSources*unit:]
	callAVX2(id, &out[0], nil, &from[0], &v.factors[0], unitBytes, mode&^(modeSpecial|modeStream|modeSecond|modeStream2))
	copy(dst[at<<v.dstShift:(at+count)<<v.dstShift], out)
	if dst2 != nil {
		copy(dst2[at<<v.dstShift:(at+count)<<v.dstShift], out)
	}
}
