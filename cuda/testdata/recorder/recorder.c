// SPDX-License-Identifier: Apache-2.0

// A CUDA that notes the calls that it gets in the file RECORDER_LOG, one a line, and does none but the memory operations.
// RECORDER_FAIL=call=code lets a call fail, RECORDER_USED=0,2 says which devices have a context.

#define _GNU_SOURCE
#include "../../abi.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local int current, mode;

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...) {
	const char *path = getenv("RECORDER_LOG");
	FILE *log = path ? fopen(path, "a") : NULL;
	if (!log)
		return;
	va_list arguments;
	va_start(arguments, format);
	vfprintf(log, format, arguments);
	va_end(arguments);
	fclose(log);
}

static int code(const char *call) {
	const char *fail = getenv("RECORDER_FAIL");
	size_t n = strlen(call);
	return fail && !strncmp(fail, call, n) && fail[n] == '=' ? atoi(fail + n + 1) : 0;
}

hf_error cudaGetDeviceCount(int *count) {
	*count = 4;
	return code(__func__);
}

hf_error cudaGetDevice(int *device) {
	if (mode)
		note("the thread was left in mode %d\n", mode);
	*device = current;
	return 0;
}

hf_error cudaSetDevice(int device) {
	note("set %d\n", device);
	current = device;
	return code(__func__);
}

hf_error cudaThreadExchangeStreamCaptureMode(hf_capture_mode *other) {
	int before = mode;
	mode = *other;
	*other = before;
	return 0;
}

hf_error cudaGetLastError(void) {
	note("last\n");
	return 0;
}

const char *cudaGetErrorName(hf_error error) { return error == 1 ? "cudaErrorInvalidValue" : "cudaErrorOther"; }
const char *cudaGetErrorString(hf_error error) { return error == 1 ? "invalid argument" : "other"; }

hf_result cuGetErrorName(hf_result error, const char **name) {
	*name = "CUDA_ERROR_NOT_SUPPORTED";
	return error == 801 ? 0 : 1;
}

hf_result cuGetErrorString(hf_result error, const char **text) {
	*text = "operation not supported";
	return error == 801 ? 0 : 1;
}

hf_error cudaHostAlloc(void **memory, size_t bytes, unsigned int flags) {
	*memory = calloc(1, bytes);
	return flags == 3 ? 0 : 1;
}

hf_error cudaHostGetDevicePointer(void **address, void *memory, unsigned int flags) {
	*address = memory;
	return flags;
}

hf_error cudaFreeHost(void *memory) {
	free(memory);
	return 0;
}

hf_error cudaEventQuery(hf_event event) {
	return event ? 600 : 0;
}

hf_error cudaMemcpyAsync(void *dst, const void *src, size_t bytes, hf_copy_kind kind, hf_stream stream) {
	note("copy %p %p %zu kind %d on %p\n", dst, src, bytes, kind, stream);
	return code(__func__);
}

hf_error cudaMemcpy2DAsync(void *dst, size_t to, const void *src, size_t from, size_t width, size_t height, hf_copy_kind kind, hf_stream stream) {
	note("copy2d %p %zu %p %zu %zu x %zu kind %d on %p\n", dst, to, src, from, width, height, kind, stream);
	return code(__func__);
}

#ifndef OLD_DRIVER
hf_result cuMemcpy2DAsync_v2(const hf_copy_params *c, hf_driver_stream stream) {
	int to_host = c->dst.memory == HF_CU_MEMORYTYPE_HOST && c->src.memory == HF_CU_MEMORYTYPE_DEVICE;
	int to_device = c->src.memory == HF_CU_MEMORYTYPE_HOST && c->dst.memory == HF_CU_MEMORYTYPE_DEVICE;
	void *dst = to_host ? c->dst.host : (void *)c->dst.device, *src = to_host ? (void *)c->src.device : c->src.host;
	note("driver copy %p %zu %p %zu %zu x %zu %s on %p\n", dst, c->dst.pitch, src, c->src.pitch, c->width, c->height,
		to_host ? "to the host" : to_device ? "to the device" : "of a wrong kind", stream);
	return code(__func__);
}
#endif

hf_error cudaMemsetAsync(void *dst, int value, size_t bytes, hf_stream stream) {
	note("fill %p %d %zu on %p\n", dst, value, bytes, stream);
	return code(__func__);
}

hf_error cudaEventRecord(hf_event event, hf_stream stream) {
	note("record %p on %p\n", event, stream);
	return code(__func__);
}

hf_error cudaStreamWaitEvent(hf_stream stream, hf_event event, unsigned int flags) {
	note("wait for event %p on %p\n", event, stream);
	return flags ? 1 : code(__func__);
}

hf_result cuStreamWriteValue32_v2(hf_driver_stream stream, hf_address address, uint32_t value, unsigned int flags) {
	if (code(__func__))
		return code(__func__);
	note("write %u flags %u on %p\n", value, flags, stream);
	*(volatile uint32_t *)address = value;
	return 0;
}

hf_result cuStreamWaitValue32_v2(hf_driver_stream stream, hf_address address, uint32_t value, unsigned int flags) {
	note("wait for %u flags %u on %p%s\n", value, flags, stream, address ? "" : " at NULL");
	return code(__func__);
}

hf_result cuStreamBatchMemOp_v2(hf_driver_stream stream, unsigned int count, hf_mem_op_params *ops, unsigned int flags) {
	if (code(__func__))
		return code(__func__);
	note("batch of %u flags %u on %p:", count, flags, stream);
	for (unsigned int i = 0; i < count; i++) {
		note(" %s %u flags %u", ops[i].operation == 2 ? "write" : "wait for", ops[i].value, ops[i].flags);
		if (ops[i].operation == 2)
			*(volatile uint32_t *)ops[i].address = ops[i].value;
	}
	note("\n");
	return 0;
}

hf_result cuCtxGetCurrent(hf_context *context) {
	*context = getenv("RECORDER_UNBOUND") ? NULL : &current;
	return 0;
}

hf_error cudaFree(void *memory) {
	note("free %p\n", memory);
	return code(__func__);
}

hf_result cuDevicePrimaryCtxGetState(hf_device device, unsigned int *flags, int *active) {
	const char *used = getenv("RECORDER_USED");
	*flags = 0;
	*active = used && strchr(used, '0' + device) != NULL;
	return 0;
}
