// SPDX-License-Identifier: Apache-2.0

// Error codes: their names, the last one of a thread, and those that stay with a device.

#include "fakecuda.h"

static const struct {
	int code;
	const char *runtime, *driver, *text;
} errors[] = {
	{0, "cudaSuccess", "CUDA_SUCCESS", "no error"},
	{1, "cudaErrorInvalidValue", "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
	{2, "cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
	{3, "cudaErrorInitializationError", "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
	{12, "cudaErrorInvalidPitchValue", 0, "invalid pitch argument"},
	{35, "cudaErrorInsufficientDriver", 0, "CUDA driver version is insufficient for CUDA runtime version"},
	{100, "cudaErrorNoDevice", "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
	{101, "cudaErrorInvalidDevice", "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
	{201, "cudaErrorDeviceUninitialized", "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
	{214, "cudaErrorECCUncorrectable", "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
	{400, "cudaErrorInvalidResourceHandle", "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
	{500, "cudaErrorSymbolNotFound", "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
	{600, "cudaErrorNotReady", "CUDA_ERROR_NOT_READY", "device not ready"},
	{700, "cudaErrorIllegalAddress", "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
	{704, "cudaErrorPeerAccessAlreadyEnabled", "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "peer access is already enabled"},
	{712, "cudaErrorHostMemoryAlreadyRegistered", "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
	 "part or all of the requested memory range is already mapped"},
	{713, "cudaErrorHostMemoryNotRegistered", "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
	 "pointer does not correspond to a registered memory region"},
	{719, "cudaErrorLaunchFailure", "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
	{801, "cudaErrorNotSupported", "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
	{900, "cudaErrorStreamCaptureUnsupported", "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
	{999, "cudaErrorUnknown", "CUDA_ERROR_UNKNOWN", "unknown error"},
};
enum { ERRORS = sizeof errors / sizeof *errors };

static __thread int last;

static int find(int code) {
	for (int i = 0; i < ERRORS; i++)
		if (errors[i].code == code)
			return i;
	return -1;
}

const char *cudaGetErrorName(cudaError_t code) {
	fc_enter_only(__func__);
	int i = find(code);
	return i < 0 ? "unrecognized error code" : errors[i].runtime;
}

const char *cudaGetErrorString(cudaError_t code) {
	fc_enter_only(__func__);
	int i = find(code);
	return i < 0 ? "unrecognized error code" : errors[i].text;
}

// The driver says of a code that it does not know that it is an invalid value, and stores NULL.
static int driver_text(int i, const char *text, const char **out) {
	*out = i < 0 ? NULL : text;
	return *out ? SUCCESS : INVALID_VALUE;
}

int cuGetErrorName(int code, const char **name) {
	ENTER_DRIVER();
	int i = find(code);
	return driver_text(i, i < 0 ? NULL : errors[i].driver, name);
}

int cuGetErrorString(int code, const char **text) {
	ENTER_DRIVER();
	int i = find(code);
	return driver_text(i, i < 0 ? NULL : errors[i].text, text);
}

int fc_fail(int code) {
	if (code)
		last = code;
	return code;
}

static cudaError_t peek(void) {
	int sticky = fc_config.devices ? fc_failed(fc_current()) : 0;
	return sticky ? sticky : last;
}

cudaError_t cudaPeekAtLastError(void) {
	ENTER();
	return peek();
}

cudaError_t cudaGetLastError(void) {
	ENTER();
	int code = peek();
	last = 0;
	return code;
}

int fc_failed(struct device *d) { return __atomic_load_n(&d->error, __ATOMIC_ACQUIRE); }

// fc_break makes a device fail for good: what is queued is dropped, and all calls return the code.
void fc_break(struct device *d, int code) {
	fc_lock();
	if (!d->error)
		__atomic_store_n(&d->error, code, __ATOMIC_RELEASE);
	fc_progress();
	fc_unlock();
}
