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

// instead returns the backend that runs kernel id where b is wanted: another one if this processor lacks an instruction, or
// does better without it.
func (b Backend) instead(id kernelID) Backend {
	if b != AVX512 {
		return b
	}
	switch id {
	case sumFloat8E4M3ID, sumFloat8E5M2ID, scaledFloat8E4M3ID, scaledFloat8E5M2ID, prodFloat8E4M3ID, prodFloat8E5M2ID,
		widenFloat8E4M3ID, widenFloat8E5M2ID, narrowFloat8E4M3ID, narrowFloat8E5M2ID:
		// They look up in tables of 128 bytes, which came later than the rest.
		if !cpu.X86.HasAVX512VBMI {
			return AVX2
		}
	case sumFloat16ID, scaledFloat16ID, prodFloat16ID, widenFloat16ID, narrowFloat16ID:
		if halvesVectors() {
			return AVX2
		}
	}
	return b
}

// halvesVectors reports whether this processor runs instructions of 512 bits as two of 256, as Zen 4 does: there, two short
// conversions from and to binary16 take less time than a long one. It is the only one with bfloat16 and byte permutations
// that has none of the later VNNI instructions.
func halvesVectors() bool {
	return cpu.X86.HasAVX512BF16 && cpu.X86.HasAVX512VBMI && !cpu.X86.HasAVXVNNI
}

const (
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
	backend          Backend
	id               kernelID
	srcSize, dstSize int                    // bytes of an element
	mode             int                    // without the number of sources
	factors          [MaxSources + 1]uint64 // what every source is multiplied with; last, what the sum is multiplied with or divided by
}

// newVectors returns the use of a kernel of a family for type t.
func newVectors(b Backend, family int, t DType) vectors {
	id := kernelIDs[family][t]
	v := vectors{backend: b.instead(id), id: id, srcSize: t.Size(), dstSize: t.Size()}
	switch family {
	case familyWiden:
		v.dstSize = Float32.Size()
	case familyNarrow:
		v.srcSize = Float32.Size()
	}
	return v
}

// setStream asks for non-temporal stores.
func (v *vectors) setStream(s Spec) {
	if s.StreamDst {
		v.mode |= modeStream
	}
	if s.StreamDst2 {
		v.mode |= modeStream2
	}
}

// setScales sets the factors of all sources.
func (v *vectors) setScales(t DType, scales []float64) {
	for j, by := range scales {
		switch {
		case t == Float64:
			v.factors[j] = math.Float64bits(by)
		case t.float():
			v.factors[j] = uint64(quietBits(float32(by)))
		default:
			v.factors[j] = uint64(integerScale(by))
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

// setDivisor sets what the sum of a floating-point type is divided by. For a power of two that is a multiplication, which is
// faster and gives the same bits: both round the same number.
func (v *vectors) setDivisor(t DType, divisor int) {
	if divisor <= 1 {
		return
	}
	by := float64(divisor)
	if t != Float64 {
		by = float64(float32(divisor))
	}
	v.mode |= modeDivide
	if fraction, _ := math.Frexp(by); fraction == 0.5 {
		v.mode ^= modeDivide | modeMultiply
		by = 1 / by
	}
	v.factors[MaxSources] = math.Float64bits(by)
	if t != Float64 {
		v.factors[MaxSources] = uint64(math.Float32bits(float32(by)))
	}
}

// run runs the kernel over buffers of any length and alignment, in calls of callBytes at most.
func (v *vectors) run(dst, dst2 []byte, srcs [][]byte) {
	count := len(dst) / v.dstSize
	mode, head := v.storeMode(dst, dst2)
	if head > 0 {
		head = min(head, count)
		v.call(mode&^(modeStream|modeStream2), dst, dst2, srcs, 0, head)
	}
	step := callBytes / max(v.srcSize, v.dstSize)
	for at := head; at < count; at += step {
		v.call(mode, dst, dst2, srcs, at, min(step, count-at))
	}
}

// storeMode returns the mode with what concerns the outputs, and how many elements stand before the first address to which
// non-temporal stores are possible. They are left out where the buffers' alignment does not allow them.
func (v *vectors) storeMode(dst, dst2 []byte) (mode, head int) {
	mode = v.mode
	if dst2 != nil {
		mode |= modeSecond
	} else {
		mode &^= modeStream2
	}
	before := func(b []byte) int { return int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) % streamAlign) }
	if mode&modeStream != 0 && before(dst)%v.dstSize != 0 {
		mode &^= modeStream
	}
	if mode&modeStream2 != 0 && (before(dst2)%v.dstSize != 0 || mode&modeStream != 0 && before(dst) != before(dst2)) {
		mode &^= modeStream2
	}
	switch {
	case mode&modeStream != 0:
		head = before(dst) / v.dstSize
	case mode&modeStream2 != 0:
		head = before(dst2) / v.dstSize
	}
	if mode&(modeStream|modeSecond|modeStream2) != 0 {
		mode |= modeSpecial
	}
	return mode, head
}

// call runs the kernel over elements [at, at+count).
func (v *vectors) call(mode int, dst, dst2 []byte, srcs [][]byte, at, count int) {
	var from [MaxSources]*byte
	for j, src := range srcs {
		from[j] = element0(src, at*v.srcSize)
	}
	to, to2 := element0(dst, at*v.dstSize), (*byte)(nil)
	if dst2 != nil {
		to2 = element0(dst2, at*v.dstSize)
	}
	mode |= len(srcs)
	narrow := min(v.srcSize, v.dstSize)
	size := count * narrow
	if v.backend == AVX512 {
		callAVX512(v.id, to, to2, &from[0], &v.factors[0], size, mode)
		return
	}
	rest := size % unitBytes
	if whole := size - rest; whole > 0 {
		callAVX2(v.id, to, to2, &from[0], &v.factors[0], whole, mode)
		at += whole / narrow
	}
	if rest > 0 {
		v.rest(mode, dst, dst2, srcs, at, rest/narrow)
	}
}

// element0 returns the address of byte at of b, which is within it.
func element0(b []byte, at int) *byte {
	return (*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), at))
}

// rest runs an AVX2 kernel over less than a unit, on copies.
func (v *vectors) rest(mode int, dst, dst2 []byte, srcs [][]byte, at, count int) {
	var units [MaxSources + 1][unitBytes * maxWiden]byte
	var from [MaxSources]*byte
	for j, src := range srcs {
		copy(units[j][:], src[at*v.srcSize:][:count*v.srcSize])
		from[j] = &units[j][0]
	}
	out := &units[MaxSources]
	callAVX2(v.id, &out[0], nil, &from[0], &v.factors[0], unitBytes, mode&^(modeSpecial|modeStream|modeSecond|modeStream2))
	copy(dst[at*v.dstSize:][:count*v.dstSize], out[:])
	if dst2 != nil {
		copy(dst2[at*v.dstSize:][:count*v.dstSize], out[:])
	}
}
