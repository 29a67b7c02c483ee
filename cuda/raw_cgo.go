// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package cuda

// #cgo CFLAGS: -std=gnu11 -O2 -Wall -Wextra
// #cgo LDFLAGS: -ldl
// #cgo noescape cu_run
// #cgo nocallback cu_run
// #cgo nocallback cu_event_query
// #cgo nocallback cu_stream_query
// #include "seam.h"
// #include <stdlib.h>
import "C"

import "unsafe"

// This file turns the functions of seam.h into Go's, one to one. No C type leaves it.

// The layout of what C reads in place: a difference that is not 0 does not compile.
var (
	goCommand = command{}
	cCommand  = C.struct_cu_command{}

	_ [0]struct{} = [unsafe.Sizeof(goCommand) - unsafe.Sizeof(cCommand)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goCommand.value) - unsafe.Offsetof(cCommand.value)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goCommand.stream) - unsafe.Offsetof(cCommand.stream)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goCommand.dst) - unsafe.Offsetof(cCommand.dst)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goCommand.src) - unsafe.Offsetof(cCommand.src)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goCommand.bytes) - unsafe.Offsetof(cCommand.bytes)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goCommand.dstPitch) - unsafe.Offsetof(cCommand.dst_pitch)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goCommand.srcPitch) - unsafe.Offsetof(cCommand.src_pitch)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goCommand.height) - unsafe.Offsetof(cCommand.height)]struct{}{}

	_ [0]struct{} = [opCopy - C.CU_COPY]struct{}{}
	_ [0]struct{} = [opCopy2D - C.CU_COPY_2D]struct{}{}
	_ [0]struct{} = [opFill - C.CU_FILL]struct{}{}
	_ [0]struct{} = [opWrite - C.CU_WRITE]struct{}{}
	_ [0]struct{} = [opWait - C.CU_WAIT]struct{}{}
	_ [0]struct{} = [opRecord - C.CU_RECORD]struct{}{}
	_ [0]struct{} = [opWaitEvent - C.CU_WAIT_EVENT]struct{}{}

	_ [0]struct{} = [memoryOperations - C.CU_MEMORY_OPERATIONS]struct{}{}
	_ [0]struct{} = [batches - C.CU_BATCHES]struct{}{}
	_ [0]struct{} = [addressRanges - C.CU_ADDRESS_RANGES]struct{}{}
)

// built is what the build lacks, empty for nothing.
const built = ""

func rawResult(r C.struct_cu_result) result { return result{int(r.code), int(r.call)} }

// rawOpen loads a library, or with loaded finds one that this process has: 0 and why not.
func rawOpen(name string, loaded bool) (library uintptr, why string) {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	var text [512]C.char
	if library = uintptr(C.cu_open(s, truth(loaded), &text[0], C.int(len(text)))); library == 0 {
		why = C.GoString(&text[0])
	}
	return library, why
}

func rawClose(library uintptr) { C.cu_close(C.uintptr_t(library)) }

// rawDriverVersion returns the version of CUDA that a driver serves, 0 if it does not say.
func rawDriverVersion(driver uintptr) int { return int(C.cu_driver_version(C.uintptr_t(driver))) }

// rawBind finds the functions. If one is missing, of is 1 for the runtime and 2 for the driver.
func rawBind(runtime, driver uintptr) (missing string, of int) {
	var text [128]C.char
	if of = int(C.cu_bind(C.uintptr_t(runtime), C.uintptr_t(driver), &text[0], C.int(len(text)))); of != 0 {
		missing = C.GoString(&text[0])
	}
	return missing, of
}

func rawHas() features { return features(C.cu_has()) }

// rawText returns the name of the function that failed, CUDA's name of the error, and its text.
func rawText(r result) (call, name, text string) {
	var cName, cText *C.char
	C.cu_error_text(C.struct_cu_result{code: C.int32_t(r.code), call: C.int32_t(r.call)}, &cName, &cText)
	return C.GoString(C.cu_call_name(C.int(r.call))), C.GoString(cName), C.GoString(cText)
}

func rawVersions() (runtime, driver int, r result) {
	var a, b C.int
	r = rawResult(C.cu_versions(&a, &b))
	return int(a), int(b), r
}

func rawDeviceCount() (int, result) {
	var n C.int
	r := rawResult(C.cu_device_count(&n))
	return int(n), r
}

func rawProperties(device int) (Properties, result) {
	var p C.struct_cu_properties
	r := rawResult(C.cu_query_device(C.int(device), &p))
	return Properties{
		Name: C.GoString(&p.name[0]), PCIAddress: C.GoString(&p.pci[0]), Major: int(p.major), Minor: int(p.minor),
		Multiprocessors: int(p.multiprocessors), CopyEngines: int(p.copy_engines),
		UnifiedAddressing: p.unified_addressing != 0, HostPointers: p.host_pointers != 0,
	}, r
}

func rawMemInfo(device int) (free, total int64, r result) {
	var a, b C.uint64_t
	r = rawResult(C.cu_mem_info(C.int(device), &a, &b))
	return int64(a), int64(b), r
}

func rawLastError(device int) result { return rawResult(C.cu_last_error(C.int(device))) }
func rawSynchronizeDevice(device int) result {
	return rawResult(C.cu_synchronize_device(C.int(device)))
}

func rawMalloc(device int, bytes int64) (Ptr, result) {
	var p C.uint64_t
	r := rawResult(C.cu_malloc(C.int(device), C.uint64_t(bytes), &p))
	return Ptr(p), r
}

func rawFree(device int, p Ptr) result { return rawResult(C.cu_free(C.int(device), C.uint64_t(p))) }

func rawHostAlloc(device int, bytes int64) (unsafe.Pointer, Ptr, result) {
	var memory unsafe.Pointer
	var p C.uint64_t
	r := rawResult(C.cu_host_alloc(C.int(device), C.uint64_t(bytes), &memory, &p))
	return memory, Ptr(p), r
}

func rawHostFree(device int, memory uintptr) result {
	return rawResult(C.cu_host_free(C.int(device), C.uintptr_t(memory)))
}

func rawRegister(device int, memory uintptr, bytes int) (Ptr, result) {
	var p C.uint64_t
	r := rawResult(C.cu_host_register(C.int(device), C.uintptr_t(memory), C.uint64_t(bytes), &p))
	return Ptr(p), r
}

func rawUnregister(device int, memory uintptr) result {
	return rawResult(C.cu_host_unregister(C.int(device), C.uintptr_t(memory)))
}

func rawPointer(p Ptr) (Attributes, result) {
	var kind, device C.int
	r := rawResult(C.cu_pointer(C.uint64_t(p), &kind, &device))
	return Attributes{Type: MemoryType(kind), Device: int(device)}, r
}

func rawAddressRange(device int, p Ptr) (base Ptr, bytes int64, r result) {
	var a, b C.uint64_t
	r = rawResult(C.cu_address_range(C.int(device), C.uint64_t(p), &a, &b))
	return Ptr(a), int64(b), r
}

func rawCopy(device int, dst, src Ptr, bytes int64, k Kind) result {
	return rawResult(C.cu_copy(C.int(device), C.uint64_t(dst), C.uint64_t(src), C.uint64_t(bytes), C.int(k)))
}

func rawNewStream(device int, high bool) (Stream, result) {
	var s C.uint64_t
	r := rawResult(C.cu_stream(C.int(device), truth(high), &s))
	return Stream(s), r
}

func rawDestroyStream(device int, s Stream) result {
	return rawResult(C.cu_stream_destroy(C.int(device), C.uint64_t(s)))
}

func rawQuery(device int, s Stream) result {
	return rawResult(C.cu_stream_query(C.int(device), C.uint64_t(s)))
}

func rawSynchronize(device int, s Stream) result {
	return rawResult(C.cu_stream_synchronize(C.int(device), C.uint64_t(s)))
}

func rawCapturing(device int, s Stream) (bool, result) {
	var capturing C.int
	r := rawResult(C.cu_stream_capturing(C.int(device), C.uint64_t(s), &capturing))
	return capturing != 0, r
}

func rawNewEvent(device int, timing bool) (Event, result) {
	var e C.uint64_t
	r := rawResult(C.cu_event(C.int(device), truth(timing), &e))
	return Event(e), r
}

func rawDestroyEvent(device int, e Event) result {
	return rawResult(C.cu_event_destroy(C.int(device), C.uint64_t(e)))
}

func rawQueryEvent(device int, e Event) result {
	return rawResult(C.cu_event_query(C.int(device), C.uint64_t(e)))
}

func rawSynchronizeEvent(device int, e Event) result {
	return rawResult(C.cu_event_synchronize(C.int(device), C.uint64_t(e)))
}

func rawElapsed(device int, from, to Event) (milliseconds float32, r result) {
	var ms C.float
	r = rawResult(C.cu_event_elapsed(C.int(device), C.uint64_t(from), C.uint64_t(to), &ms))
	return float32(ms), r
}

func rawCanAccess(device, peer int) (bool, result) {
	var can C.int
	r := rawResult(C.cu_can_access(C.int(device), C.int(peer), &can))
	return can != 0, r
}

func rawEnablePeer(device, peer int) result {
	return rawResult(C.cu_enable_peer(C.int(device), C.int(peer)))
}

func rawIPCHandle(device int, p Ptr) (h [64]byte, r result) {
	r = rawResult(C.cu_ipc_get(C.int(device), C.uint64_t(p), (*C.uint8_t)(&h[0])))
	return h, r
}

func rawOpenIPC(device int, h [64]byte) (Ptr, result) {
	var p C.uint64_t
	r := rawResult(C.cu_ipc_open(C.int(device), (*C.uint8_t)(&h[0]), &p))
	return Ptr(p), r
}

func rawCloseIPC(device int, p Ptr) result {
	return rawResult(C.cu_ipc_close(C.int(device), C.uint64_t(p)))
}

func rawRun(device int, list []command, f features) (done int, r result) {
	ran := C.cu_run(C.int(device), (*C.struct_cu_command)(unsafe.Pointer(unsafe.SliceData(list))), C.int(len(list)), C.int(f))
	return int(ran.done), result{int(ran.code), int(ran.call)}
}

func truth(b bool) C.int {
	if b {
		return 1
	}
	return 0
}
