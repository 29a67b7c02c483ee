// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"encoding/binary"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// Which NaN a sum is, its sign and payload, follows the processor and so the kernel (internal/kernel). Where several nodes add the
// same numbers, in pairs and exchanges, their results may differ in that, which is nobody's fault.

// nan tells the NaNs of a type, all in 64 bits at once. The zero value stands for types without, and finds none.
type nan struct {
	signs   uint64 // the upper bit of each element
	above   uint64 // in each element: added to what is more than infinity, without its sign, it carries into the sign
	element uint64 // the bits of the first one
	bits    int    // of an element
}

// nan returns which NaNs of a call's result do not count as different: those that were computed.
func (k *call) nan() nan {
	if k.kind != schedule.AllReduce {
		return nan{}
	}
	switch k.dtype {
	case TypeFloat16:
		return nanAbove(0x7c00, 16)
	case TypeBFloat16:
		return nanAbove(0x7f80, 16)
	case TypeFloat32:
		return nanAbove(0x7f800000, 32)
	case TypeFloat64:
		return nanAbove(0x7ff0000000000000, 64)
	case TypeFloat8E4M3:
		return nanAbove(0x7e, 8) // no infinity: the largest number
	case TypeFloat8E5M2:
		return nanAbove(0x7c, 8)
	}
	return nan{}
}

// nanAbove returns the NaNs of a type of so many bits whose largest number is given.
func nanAbove(largest uint64, bits int) nan {
	element := ^uint64(0) >> (64 - bits)
	n := nan{signs: 1 << (bits - 1), above: element>>1 - largest, element: element, bits: bits}
	for ; bits < 64; bits *= 2 {
		n.signs, n.above = n.signs|n.signs<<bits, n.above|n.above<<bits
	}
	return n
}

// found returns the signs' places of the elements of w that are NaN.
func (n *nan) found(w uint64) uint64 { return (w&^n.signs + n.above) & n.signs }

// within reports whether a NaN is among whole elements.
func (n *nan) within(b []byte) bool {
	if n.bits == 0 {
		return false
	}
	var found [4]uint64 // four at a time
	numbers, above := ^n.signs, n.above
	for ; len(b) >= 32; b = b[32:] {
		found[0] |= binary.NativeEndian.Uint64(b)&numbers + above
		found[1] |= binary.NativeEndian.Uint64(b[8:])&numbers + above
		found[2] |= binary.NativeEndian.Uint64(b[16:])&numbers + above
		found[3] |= binary.NativeEndian.Uint64(b[24:])&numbers + above
	}
	for ; len(b) >= 8; b = b[8:] {
		found[0] |= n.found(binary.NativeEndian.Uint64(b))
	}
	return (found[0]|found[1]|found[2]|found[3]|n.found(lastWord(b)))&n.signs != 0
}

// unify copies whole elements into dst, every NaN as the one whose bits are all set.
func (n *nan) unify(dst, b []byte) []byte {
	dst = dst[:len(b)]
	at := 0
	for ; len(b)-at >= 8; at += 8 {
		w := binary.NativeEndian.Uint64(b[at:])
		binary.NativeEndian.PutUint64(dst[at:], w|n.found(w)>>(n.bits-1)*n.element)
	}
	w := lastWord(b[at:])
	var last [8]byte
	binary.NativeEndian.PutUint64(last[:], w|n.found(w)>>(n.bits-1)*n.element)
	copy(dst[at:], last[:])
	return dst
}

// lastWord reads less than 8 bytes, with zeros behind them.
func lastWord(b []byte) uint64 {
	var w [8]byte
	copy(w[:], b)
	return binary.NativeEndian.Uint64(w[:])
}
