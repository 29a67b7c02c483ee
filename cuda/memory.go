// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"fmt"
	"sync"
	"unsafe"
)

// Ptr is an address as the device has it: of its own memory, or of host memory. Registered host memory has one on the
// device ([HostMemory.DevicePtr]) that may differ from the host's ([HostMemory.HostPtr]).
type Ptr uintptr

// Malloc allocates device memory. It may wait for all work of the device.
//
// Implements: cudaMalloc.
func (d *Device) Malloc(bytes int64) (Ptr, error) {
	if bytes <= 0 {
		return 0, invalidf("%d bytes of device memory", bytes)
	}
	p, r := rawMalloc(d.ordinal, bytes)
	return p, d.count(allocations, 1, r, size(bytes))
}

// Free gives memory of Malloc back. It waits for all work of the device.
//
// Implements: cudaFree.
func (d *Device) Free(p Ptr) error {
	if p == 0 {
		return nil
	}
	return d.count(allocations, -1, rawFree(d.ordinal, p), "")
}

// Memcpy copies bytes on the default stream and waits until that is done. It is for set-up and tests: [Device.Run] copies
// without waiting. The host's side may be any memory that Go does not move.
//
// Implements: cudaMemcpy.
func (d *Device) Memcpy(dst, src Ptr, bytes int64, k Kind) error {
	return d.failed(rawCopy(d.ordinal, dst, src, bytes, k), size(bytes)+" "+k.String())
}

// HostMemory is host memory that devices can reach: its pages are pinned. It is for all devices of the process.
type HostMemory struct {
	device    *Device
	mapped    Ptr // the first byte's address on the device
	allocated bool

	mu    sync.Mutex
	bytes []byte // nil when closed
}

// Register pins memory that is not Go's, e.g. from mmap, for all devices; it must stay mapped until Close. Registering
// touches every page and takes time in proportion.
//
// Implements: cudaHostRegister, cudaHostGetDevicePointer.
func (d *Device) Register(b []byte) (*HostMemory, error) {
	if len(b) == 0 {
		return nil, invalidf("memory to register is empty")
	}
	p, r := rawRegister(d.ordinal, address(b), len(b))
	if err := d.count(hostMemories, 1, r, size(int64(len(b)))); err != nil {
		return nil, err
	}
	return &HostMemory{device: d, mapped: p, bytes: b}, nil
}

// HostAlloc allocates pinned host memory for all devices. It is zero.
//
// Implements: cudaHostAlloc, cudaHostGetDevicePointer.
func (d *Device) HostAlloc(bytes int64) (*HostMemory, error) {
	if bytes <= 0 {
		return nil, invalidf("%d bytes of host memory", bytes)
	}
	memory, p, r := rawHostAlloc(d.ordinal, bytes)
	if err := d.count(hostMemories, 1, r, size(bytes)); err != nil {
		return nil, err
	}
	h := &HostMemory{device: d, mapped: p, allocated: true, bytes: unsafe.Slice((*byte)(memory), bytes)}
	clear(h.bytes) // CUDA does not promise it
	return h, nil
}

// Bytes returns the memory; nil when it is closed.
func (h *HostMemory) Bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bytes
}

// DevicePtr returns the address on the device of the byte at an offset.
func (h *HostMemory) DevicePtr(offset int64) Ptr { return h.mapped + Ptr(offset) }

// HostPtr returns the host's address of the byte at an offset: the one for copies. It is 0 when the memory is closed.
func (h *HostMemory) HostPtr(offset int64) Ptr {
	b := h.Bytes()
	if b == nil {
		return 0
	}
	return Ptr(address(b)) + Ptr(offset)
}

// Word returns the 32-bit word at an offset, which must be a multiple of 4 and within the memory.
func (h *HostMemory) Word(offset int64) (Word, error) {
	b := h.Bytes()
	if offset < 0 || offset%4 != 0 || offset+4 > int64(len(b)) {
		return Word{}, invalidf("word at byte %d of %d", offset, len(b))
	}
	return Word{Host: (*uint32)(unsafe.Pointer(&b[offset])), Device: h.DevicePtr(offset)}, nil
}

// Close ends the registration, or frees what HostAlloc gave; no device may be using the memory. A second Close does
// nothing.
//
// Implements: cudaHostUnregister, cudaFreeHost.
func (h *HostMemory) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bytes == nil {
		return nil
	}
	end := rawUnregister
	if h.allocated {
		end = rawHostFree
	}
	err := h.device.count(hostMemories, -1, end(h.device.ordinal, address(h.bytes)), size(int64(len(h.bytes))))
	h.bytes = nil
	return err
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// MemoryType is what kind of memory an address is of.
type MemoryType int

// The kinds, with the values of cudaMemoryType.
const (
	Unregistered MemoryType = iota // CUDA does not know it: the host's own
	Host                           // pinned
	DeviceMemory                   // of a device
	Managed                        // moves between host and devices
)

// String returns the name.
func (m MemoryType) String() string {
	if names := [...]string{"unregistered", "host", "device", "managed"}; m >= 0 && int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("cuda.MemoryType(%d)", int(m))
}

// Attributes are what CUDA knows of an address.
type Attributes struct {
	Type   MemoryType
	Device int // the ordinal of the device that the memory is of, or was registered with; -1 if it is unregistered
}

// PointerAttributes asks what memory is at an address, which may be any. It makes no context.
//
// Implements: cuPointerGetAttribute, cudaPointerGetAttributes.
func PointerAttributes(p Ptr) (Attributes, error) {
	if _, err := library(); err != nil {
		return Attributes{}, err
	}
	a, r := rawPointer(p)
	return a, failed(r, fmt.Sprintf("of 0x%x", uintptr(p)))
}

// AddressRange returns the start and the length of the allocation that an address of device memory is in. The error wraps
// ErrNotSupported where the driver cannot tell, and ErrInvalid where the address is not of device memory.
//
// Implements: cuMemGetAddressRange_v2.
func AddressRange(p Ptr) (base Ptr, bytes int64, err error) {
	l, err := library()
	if err != nil {
		return 0, 0, err
	}
	if l.has&addressRanges == 0 {
		return 0, 0, notSupported{driverName + " has no cuMemGetAddressRange_v2"}
	}
	a, err := PointerAttributes(p)
	if err != nil {
		return 0, 0, err
	}
	if a.Type != DeviceMemory && a.Type != Managed || a.Device < 0 {
		return 0, 0, invalidf("0x%x is %v memory", uintptr(p), a.Type)
	}
	base, bytes, r := rawAddressRange(a.Device, p)
	return base, bytes, failed(r, fmt.Sprintf("of 0x%x on device %d", uintptr(p), a.Device))
}

// IPCHandle names memory of Malloc for other processes, which open it by OpenIPC. It names the whole allocation, whatever
// address in it p is.
//
// Implements: cudaIpcGetMemHandle.
func (d *Device) IPCHandle(p Ptr) ([64]byte, error) {
	h, r := rawIPCHandle(d.ordinal, p)
	return h, d.failed(r, fmt.Sprintf("of 0x%x", uintptr(p)))
}

// OpenIPC maps memory that another process named.
//
// Implements: cudaIpcOpenMemHandle.
func (d *Device) OpenIPC(h [64]byte) (Ptr, error) {
	p, r := rawOpenIPC(d.ordinal, h)
	return p, d.count(mappings, 1, r, "")
}

// CloseIPC ends a mapping of OpenIPC.
//
// Implements: cudaIpcCloseMemHandle.
func (d *Device) CloseIPC(p Ptr) error { return d.count(mappings, -1, rawCloseIPC(d.ordinal, p), "") }
