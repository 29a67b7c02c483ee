// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// This file loads the libraries, and has what all calls need.

#define _GNU_SOURCE
#include "library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

struct cu_library cu_lib;

uintptr_t cu_open(const char *name, int loaded, char *why, int size) {
	// Local: nothing else shall bind to it.
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | (loaded ? RTLD_NOLOAD : 0));
	if (!library && size > 0) {
		const char *error = dlerror();
		snprintf(why, size, "%s", error ? error : "not in this process");
	}
	return (uintptr_t)library;
}

void cu_close(uintptr_t library) { dlclose((void *)library); }

int cu_driver_version(uintptr_t driver) {
	__typeof__(cu_lib.cuDriverGetVersion) get;
	int version = 0;
	*(void **)&get = dlsym((void *)driver, "cuDriverGetVersion");
	return get && get(&version) == HF_CUDA_SUCCESS ? version : 0;
}

// find looks a symbol up; newer libraries may have cudaEventElapsedTime only by its second name.
static void *find(void *library, const char *name) {
	void *symbol = dlsym(library, name);
	return symbol || strcmp(name, "cudaEventElapsedTime") ? symbol : dlsym(library, "cudaEventElapsedTime_v2");
}

int cu_bind(uintptr_t runtime, uintptr_t driver, char *missing, int size) {
	void *library = (void *)runtime;
	int which = 1;
#define FIND(result, name, parameters) *(void **)&cu_lib.name = find(library, #name);
#define NEED(result, name, parameters) \
	FIND(result, name, parameters) \
	if (!cu_lib.name) { \
		snprintf(missing, size, "%s", #name); \
		return which; \
	}
	HF_RUNTIME(NEED)
	library = (void *)driver;
	which = 2;
	HF_DRIVER(NEED)
	HF_OPTIONAL(FIND)
	return 0;
}

int cu_has(void) {
	int has = 0;
	if (cu_lib.cuStreamWaitValue32_v2 && cu_lib.cuStreamWriteValue32_v2)
		has |= CU_MEMORY_OPERATIONS;
	if (cu_lib.cuStreamBatchMemOp_v2)
		has |= CU_BATCHES;
	if (cu_lib.cuMemGetAddressRange_v2)
		has |= CU_ADDRESS_RANGES;
	return has;
}

const char *cu_call_name(int call) {
#define NAME(result, name, parameters) [CU_CALL_##name] = #name,
	static const char *const names[CU_CALLS] = { HF_RUNTIME(NAME) HF_DRIVER(NAME) HF_OPTIONAL(NAME) };
	return call > 0 && call < CU_CALLS && names[call] ? names[call] : "";
}

void cu_error_text(struct cu_result result, const char **name, const char **text) {
	if (result.call > CU_RUNTIME_CALLS) {
		if (cu_lib.cuGetErrorName(result.code, name) != HF_CUDA_SUCCESS)
			*name = NULL;
		if (cu_lib.cuGetErrorString(result.code, text) != HF_CUDA_SUCCESS)
			*text = NULL;
		return;
	}
	*name = cu_lib.cudaGetErrorName(result.code);
	*text = cu_lib.cudaGetErrorString(result.code);
}

int cu_used(int device) {
	unsigned int flags;
	int active = 1;
	if (!cu_lib.cuDevicePrimaryCtxGetState || cu_lib.cuDevicePrimaryCtxGetState(device, &flags, &active) != HF_CUDA_SUCCESS)
		return 1;
	return active;
}

struct cu_result cu_enter(int device, struct cu_thread *before) {
	*before = (struct cu_thread){ .mode = HF_cudaStreamCaptureModeRelaxed };
	struct cu_result r = CALL(cudaGetDevice, &before->device);
	if (r.code == HF_cudaSuccess && before->device != device) {
		r = CALL(cudaSetDevice, device);
		if (r.code != HF_cudaSuccess)
			return cu_leave(device, before, r); // a device that is lost becomes the current one nevertheless
	}
	// Not before the device is set: it may make the context of the one that is current.
	if (r.code == HF_cudaSuccess)
		before->relaxed = cu_lib.cudaThreadExchangeStreamCaptureMode(&before->mode) == HF_cudaSuccess;
	if (!before->relaxed)
		cu_lib.cudaGetLastError();
	return r;
}

struct cu_result cu_bind_context(void) {
	hf_context context = NULL;
	if (cu_lib.cuCtxGetCurrent && cu_lib.cuCtxGetCurrent(&context) == HF_CUDA_SUCCESS && context)
		return (struct cu_result){ 0 };
	return CALL(cudaFree, NULL); // does nothing else
}

struct cu_result cu_leave(int device, const struct cu_thread *before, struct cu_result result) {
	hf_capture_mode mode = before->mode;
	if (before->relaxed && cu_lib.cudaThreadExchangeStreamCaptureMode(&mode) != HF_cudaSuccess)
		cu_lib.cudaGetLastError();
	if (result.code != HF_cudaSuccess)
		cu_lib.cudaGetLastError();
	// A thread begins with device 0. To go back there where nobody uses it would make a context, of hundreds of megabytes,
	// on the first device for each process of a machine.
	if (before->device != device && cu_used(before->device) && cu_lib.cudaSetDevice(before->device) != HF_cudaSuccess)
		cu_lib.cudaGetLastError();
	return result;
}
