// SPDX-License-Identifier: Apache-2.0

package hfreduce

import "unsafe"

// Buffer names the memory that a collective reads or writes. It is a small value and does not own the memory: the
// caller keeps it alive and untouched until the call returns (or, for asynchronous calls, until the Request is done).
type Buffer struct {
	p     unsafe.Pointer
	bytes int
	dtype DataType
	given bool // tells the zero Buffer from an empty one
}

// Host returns the Buffer over a slice in host memory. A slice made by [View] is used in place, others are copied
// through the node's shared segment.
func Host[T Element](s []T) Buffer {
	var zero T
	return Buffer{p: unsafe.Pointer(unsafe.SliceData(s)), bytes: len(s) * int(unsafe.Sizeof(zero)), dtype: TypeOf[T](), given: true}
}

// Bytes returns the Buffer over raw memory that holds elements of type d, at any alignment. len(b) must be a multiple
// of d.Size(), which the collectives check.
func Bytes(b []byte, d DataType) Buffer {
	return Buffer{p: unsafe.Pointer(unsafe.SliceData(b)), bytes: len(b), dtype: d, given: true}
}

// Count returns the number of elements.
func (b Buffer) Count() int {
	if size := b.dtype.Size(); size > 0 {
		return b.bytes / size
	}
	return 0
}

// Bytes returns the size in bytes.
func (b Buffer) Bytes() int64 { return int64(b.bytes) }

// DataType returns the type of the elements.
func (b Buffer) DataType() DataType { return b.dtype }

// raw returns the memory as bytes.
func (b Buffer) raw() []byte { return unsafe.Slice((*byte)(b.p), b.bytes) }

// check reports what is wrong with the buffer alone; name is the parameter's.
func (b Buffer) check(name string) error {
	switch {
	case !b.given:
		return invalidf("%s is the zero Buffer; make it with Host or Bytes", name)
	case !b.dtype.Valid():
		return invalidf("%s has the unknown data type %v", name, b.dtype)
	case b.bytes%b.dtype.Size() != 0:
		return invalidf("%s has %d bytes, not a multiple of the %d bytes of a %v", name, b.bytes, b.dtype.Size(), b.dtype)
	}
	return nil
}

// overlaps reports whether the two buffers share a byte.
func (b Buffer) overlaps(o Buffer) bool {
	x, y := uintptr(b.p), uintptr(o.p)
	return b.bytes > 0 && o.bytes > 0 && x < y+uintptr(o.bytes) && y < x+uintptr(b.bytes)
}
