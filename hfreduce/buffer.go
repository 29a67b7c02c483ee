// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"unsafe"

	"github.com/hfreduce/hfreduce/cuda"
)

// Buffer names the memory that a collective reads or writes. It is a small value and does not own the memory: the
// caller keeps it alive and untouched until the call returns (or, for asynchronous calls, until the Request is done; for
// memory of a GPU see [Device]).
type Buffer struct {
	p     unsafe.Pointer // host memory, or a *deviceMemory
	bytes int
	dtype DataType
	kind  memoryKind // with a fifth field two Buffers would not fit into the registers of a call
}

// memoryKind tells where a buffer is.
type memoryKind uint8

const (
	noMemory memoryKind = iota // the zero Buffer
	hostMemory
	gpuMemory
)

// device reports whether the buffer is in the memory of a GPU.
func (b Buffer) device() bool { return b.kind == gpuMemory }

// deviceMemory is where memory of a GPU is. It is apart so that buffers, which calls pass on by value, stay small.
type deviceMemory struct {
	addr   cuda.Ptr
	stream cuda.Stream
}

// gpu returns where a device buffer is.
func (b Buffer) gpu() *deviceMemory { return (*deviceMemory)(b.p) }

// Host returns the Buffer over a slice in host memory. A slice made by [View] is used in place, others are copied
// through the node's shared segment.
func Host[T Element](s []T) Buffer {
	var zero T
	return Buffer{p: unsafe.Pointer(unsafe.SliceData(s)), bytes: len(s) * int(unsafe.Sizeof(zero)), dtype: TypeOf[T](), kind: hostMemory}
}

// Bytes returns the Buffer over raw memory that holds elements of type d, at any alignment. len(b) must be a multiple
// of d.Size(), which the collectives check.
func Bytes(b []byte, d DataType) Buffer {
	return Buffer{p: unsafe.Pointer(unsafe.SliceData(b)), bytes: len(b), dtype: d, kind: hostMemory}
}

// Device returns the Buffer over count elements of type d in the memory of a GPU, at p. A collective works on it in the
// order of the CUDA stream s: it begins when what was given to s before is done, and what is given to s after the call
// comes after it. So a producer and a consumer on s need no synchronisation with the host.
//
// The Async methods give all work to the GPU and return; they wait for nobody. Until what comes next on s runs, the memory
// belongs to the collective. A Request is done when the copies are. The other methods return when the result is in dst.
//
// After an error the contents of dst mean nothing, and copies may still be under way, but not beyond what comes next on s.
//
// s is a cudaStream_t of the GPU that p belongs to; 0 is the legacy default stream. The per-thread default stream has no
// meaning for goroutines and is refused, as is a stream that is being captured into a graph. All buffers of a Comm are of
// one GPU. The Comm must have been made for GPUs: see Options.CUDA.
func Device(p cuda.Ptr, count int, d DataType, s cuda.Stream) Buffer {
	if count == 0 { // nothing is copied, and no GPU is needed to say so
		return Buffer{dtype: d, kind: hostMemory}
	}
	return Buffer{p: unsafe.Pointer(&deviceMemory{p, s}), bytes: count * d.Size(), dtype: d, kind: gpuMemory}
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

// perThreadStream is cudaStreamPerThread.
const perThreadStream = cuda.Stream(2)

// at returns the address. Host and device addresses of a process differ.
func (b Buffer) at() uintptr {
	if b.device() {
		return uintptr(b.gpu().addr)
	}
	return uintptr(b.p)
}

// raw returns host memory as bytes; of a device buffer it means nothing.
func (b Buffer) raw() []byte { return unsafe.Slice((*byte)(b.p), b.bytes) }

// check reports what is wrong with the buffer alone; name is the parameter's.
func (b Buffer) check(name string) error {
	switch {
	case b.bytes < 0:
		return invalidf("%s has a negative count", name)
	case b.kind == noMemory:
		return invalidf("%s is the zero Buffer; make it with Host, Bytes or Device", name)
	case !b.dtype.Valid():
		return invalidf("%s has the unknown data type %v", name, b.dtype)
	case b.bytes%b.dtype.Size() != 0:
		return invalidf("%s has %d bytes, not a multiple of the %d bytes of a %v", name, b.bytes, b.dtype.Size(), b.dtype)
	case b.device() && b.gpu().addr == 0 && b.bytes > 0:
		return invalidf("%s is %d bytes at the device address 0", name, b.bytes)
	case b.device() && b.gpu().stream == perThreadStream:
		return invalidf("%s is on the per-thread default stream, which goroutines do not have; give a stream of its own or the legacy default stream", name)
	}
	return nil
}

// overlaps reports whether the two buffers share a byte.
func (b Buffer) overlaps(o Buffer) bool {
	x, y := b.at(), o.at()
	return b.bytes > 0 && o.bytes > 0 && x < y+uintptr(o.bytes) && y < x+uintptr(b.bytes)
}
