// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// All calls but the hot ones, which are in run.c.

#include "library.h"

#include <string.h>

_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8, "addresses and sizes have 64 bits");

// ON makes one call on a device and returns its result; what follows it, if any, is done when the call had success.
#define ON(device, call, ...) \
	struct cu_thread before; \
	struct cu_result result = cu_enter(device, &before); \
	if (result.code == HF_cudaSuccess) { \
		result = call; \
		if (result.code == HF_cudaSuccess) { \
			__VA_ARGS__; \
		} \
		result = cu_leave(device, &before, result); \
	} \
	return result

// plain takes the error of a call without a device away from the thread.
static struct cu_result plain(struct cu_result result) {
	if (result.code != HF_cudaSuccess)
		cu_lib.cudaGetLastError();
	return result;
}

struct cu_result cu_versions(int *runtime, int *driver) {
	struct cu_result r = CALL(cudaRuntimeGetVersion, runtime);
	return plain(r.code ? r : CALL(cudaDriverGetVersion, driver));
}

struct cu_result cu_device_count(int *count) { return plain(CALL(cudaGetDeviceCount, count)); }

struct cu_result cu_query_device(int device, struct cu_properties *out) {
	static const int wanted[] = {
		HF_cudaDevAttrComputeCapabilityMajor, HF_cudaDevAttrComputeCapabilityMinor, HF_cudaDevAttrMultiProcessorCount,
		HF_cudaDevAttrAsyncEngineCount, HF_cudaDevAttrUnifiedAddressing, HF_cudaDevAttrCanUseHostPointerForRegisteredMem,
	};
	int got[6] = { 0 };
	memset(out, 0, sizeof *out);
	for (int i = 0; i < 6; i++) {
		struct cu_result r = plain(CALL(cudaDeviceGetAttribute, &got[i], wanted[i], device));
		if (r.code)
			return r;
	}
	out->major = got[0], out->minor = got[1], out->multiprocessors = got[2], out->copy_engines = got[3];
	out->unified_addressing = got[4], out->host_pointers = got[5];
	struct cu_result r = plain(CALL(cudaDeviceGetPCIBusId, out->pci, sizeof out->pci, device));
	return r.code ? r : CALL(cuDeviceGetName, out->name, sizeof out->name, device);
}

struct cu_result cu_mem_info(int device, uint64_t *free_bytes, uint64_t *total) {
	size_t unused = 0, all = 0;
	ON(device, CALL(cudaMemGetInfo, &unused, &all), *free_bytes = unused, *total = all);
}

struct cu_result cu_last_error(int device) {
	size_t unused, all;
	if (!cu_used(device))
		return (struct cu_result){ 0 };
	ON(device, CALL(cudaMemGetInfo, &unused, &all));
}

struct cu_result cu_synchronize_device(int device) { ON(device, CALL(cudaDeviceSynchronize)); }

struct cu_result cu_malloc(int device, uint64_t bytes, uint64_t *out) {
	void *memory = NULL;
	ON(device, CALL(cudaMalloc, &memory, bytes), *out = (uintptr_t)memory);
}

struct cu_result cu_free(int device, uint64_t address) { ON(device, CALL(cudaFree, (void *)address)); }

// device_address asks how the device names host memory.
static struct cu_result device_address(void *memory, uint64_t *address) {
	void *there = NULL;
	struct cu_result r = CALL(cudaHostGetDevicePointer, &there, memory, 0);
	*address = (uintptr_t)there;
	return r;
}

static struct cu_result host_alloc(uint64_t bytes, void **out, uint64_t *address) {
	struct cu_result r = CALL(cudaHostAlloc, out, bytes, HF_cudaHostAllocPortable | HF_cudaHostAllocMapped);
	if (r.code)
		return r;
	r = device_address(*out, address);
	if (r.code)
		cu_lib.cudaFreeHost(*out);
	return r;
}

struct cu_result cu_host_alloc(int device, uint64_t bytes, void **out, uint64_t *address) {
	ON(device, host_alloc(bytes, out, address));
}

struct cu_result cu_host_free(int device, uintptr_t memory) { ON(device, CALL(cudaFreeHost, (void *)memory)); }

static struct cu_result host_register(void *memory, uint64_t bytes, uint64_t *address) {
	struct cu_result r = CALL(cudaHostRegister, memory, bytes, HF_cudaHostRegisterPortable | HF_cudaHostRegisterMapped);
	if (r.code)
		return r;
	r = device_address(memory, address);
	if (r.code)
		cu_lib.cudaHostUnregister(memory);
	return r;
}

struct cu_result cu_host_register(int device, uintptr_t memory, uint64_t bytes, uint64_t *address) {
	ON(device, host_register((void *)memory, bytes, address));
}

struct cu_result cu_host_unregister(int device, uintptr_t memory) { ON(device, CALL(cudaHostUnregister, (void *)memory)); }

// driver_pointer asks the driver, which makes no context for that. It returns 0 if it does not know the answer.
static int driver_pointer(uint64_t address, int *type, int *device) {
	unsigned int kind = 0, managed = 0;
	int ordinal = -1;
	if (!cu_lib.cuPointerGetAttribute)
		return 0;
	hf_result r = cu_lib.cuPointerGetAttribute(&kind, HF_CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address);
	if (r == HF_CUDA_ERROR_NOT_INITIALIZED && cu_lib.cudaGetDeviceCount(&ordinal) == HF_cudaSuccess) // which initializes
		r = cu_lib.cuPointerGetAttribute(&kind, HF_CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address);
	if (r == HF_CUDA_ERROR_INVALID_VALUE) { // how it says that it does not know the memory
		*type = HF_cudaMemoryTypeUnregistered;
		*device = -1;
		return 1;
	}
	if (r != HF_CUDA_SUCCESS || (kind != HF_CU_MEMORYTYPE_HOST && kind != HF_CU_MEMORYTYPE_DEVICE) ||
		cu_lib.cuPointerGetAttribute(&ordinal, HF_CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address) != HF_CUDA_SUCCESS)
		return 0;
	if (cu_lib.cuPointerGetAttribute(&managed, HF_CU_POINTER_ATTRIBUTE_IS_MANAGED, address) != HF_CUDA_SUCCESS)
		managed = 0;
	*type = managed ? HF_cudaMemoryTypeManaged : kind == HF_CU_MEMORYTYPE_HOST ? HF_cudaMemoryTypeHost : HF_cudaMemoryTypeDevice;
	*device = ordinal;
	return 1;
}

struct cu_result cu_pointer(uint64_t address, int *type, int *device) {
	struct hf_pointer_attributes a = { 0 };
	if (driver_pointer(address, type, device))
		return (struct cu_result){ 0 };
	struct cu_result r = plain(CALL(cudaPointerGetAttributes, &a, (void *)address));
	*type = a.type;
	*device = a.type == HF_cudaMemoryTypeUnregistered ? -1 : a.device;
	return r;
}

static struct cu_result address_range(hf_address *start, size_t *size, hf_address address) {
	struct cu_result r = cu_bind_context();
	return r.code ? r : CALL(cuMemGetAddressRange_v2, start, size, address);
}

struct cu_result cu_address_range(int device, uint64_t address, uint64_t *base, uint64_t *bytes) {
	hf_address start = 0;
	size_t size = 0;
	ON(device, address_range(&start, &size, address), *base = start, *bytes = size);
}

struct cu_result cu_copy(int device, uint64_t dst, uint64_t src, uint64_t bytes, int kind) {
	ON(device, CALL(cudaMemcpy, (void *)dst, (void *)src, bytes, kind));
}

// new_stream makes a stream that does not wait for the default stream.
static struct cu_result new_stream(int high, hf_stream *out) {
	int least = 0, greatest = 0;
	if (high) {
		struct cu_result r = CALL(cudaDeviceGetStreamPriorityRange, &least, &greatest);
		if (r.code)
			return r;
	}
	return CALL(cudaStreamCreateWithPriority, out, HF_cudaStreamNonBlocking, greatest);
}

struct cu_result cu_stream(int device, int high, uint64_t *out) {
	hf_stream stream = NULL;
	ON(device, new_stream(high, &stream), *out = (uintptr_t)stream);
}

struct cu_result cu_stream_destroy(int device, uint64_t stream) { ON(device, CALL(cudaStreamDestroy, (hf_stream)stream)); }
struct cu_result cu_stream_query(int device, uint64_t stream) { ON(device, CALL(cudaStreamQuery, (hf_stream)stream)); }
struct cu_result cu_stream_synchronize(int device, uint64_t stream) { ON(device, CALL(cudaStreamSynchronize, (hf_stream)stream)); }

struct cu_result cu_stream_capturing(int device, uint64_t stream, int *capturing) {
	hf_capture status = HF_cudaStreamCaptureStatusNone;
	ON(device, CALL(cudaStreamIsCapturing, (hf_stream)stream, &status), *capturing = status != HF_cudaStreamCaptureStatusNone);
}

struct cu_result cu_event(int device, int timing, uint64_t *out) {
	hf_event event = NULL;
	ON(device, CALL(cudaEventCreateWithFlags, &event, timing ? 0 : HF_cudaEventDisableTiming), *out = (uintptr_t)event);
}

struct cu_result cu_event_destroy(int device, uint64_t event) { ON(device, CALL(cudaEventDestroy, (hf_event)event)); }
struct cu_result cu_event_query(int device, uint64_t event) { ON(device, CALL(cudaEventQuery, (hf_event)event)); }
struct cu_result cu_event_synchronize(int device, uint64_t event) { ON(device, CALL(cudaEventSynchronize, (hf_event)event)); }

struct cu_result cu_event_elapsed(int device, uint64_t from, uint64_t to, float *milliseconds) {
	ON(device, CALL(cudaEventElapsedTime, milliseconds, (hf_event)from, (hf_event)to));
}

struct cu_result cu_can_access(int device, int peer, int *can) { return plain(CALL(cudaDeviceCanAccessPeer, can, device, peer)); }

struct cu_result cu_enable_peer(int device, int peer) { ON(device, CALL(cudaDeviceEnablePeerAccess, peer, 0)); }

struct cu_result cu_ipc_get(int device, uint64_t address, uint8_t handle[64]) {
	hf_handle h;
	ON(device, CALL(cudaIpcGetMemHandle, &h, (void *)address), memcpy(handle, &h, sizeof h));
}

struct cu_result cu_ipc_open(int device, const uint8_t handle[64], uint64_t *out) {
	hf_handle h;
	void *memory = NULL;
	memcpy(&h, handle, sizeof h);
	ON(device, CALL(cudaIpcOpenMemHandle, &memory, h, HF_cudaIpcMemLazyEnablePeerAccess), *out = (uintptr_t)memory);
}

struct cu_result cu_ipc_close(int device, uint64_t address) { ON(device, CALL(cudaIpcCloseMemHandle, (void *)address)); }
