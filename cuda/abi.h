// SPDX-License-Identifier: Apache-2.0

// The part of CUDA's binary interface that this package uses, so that no SDK is needed to build: the runtime's of CUDA
// 11.8 to 13, and the driver's (libcuda.so.1). All of it is integers, pointers and five small structures.
//
// Own names begin with hf_ and HF_, so that testdata/abicheck.c can include this file beside CUDA's headers and hold each
// line against them (make check-cuda-abi). There HF_ABI_CHECK is defined, and the types are the real ones.

#ifndef CUDA_ABI_H
#define CUDA_ABI_H

#include <stddef.h>
#include <stdint.h>

// The name of each constant of CUDA with its value.
#define HF_CONSTANTS(X) \
	X(cudaSuccess, 0) X(cudaErrorInvalidValue, 1) X(cudaErrorNotReady, 600) X(cudaErrorPeerAccessAlreadyEnabled, 704) \
	X(CUDA_SUCCESS, 0) X(CUDA_ERROR_INVALID_VALUE, 1) X(CUDA_ERROR_NOT_INITIALIZED, 3) \
	X(cudaErrorStubLibrary, 34) X(cudaErrorCallRequiresNewerDriver, 36) \
	X(cudaErrorInsufficientDriver, 35) X(cudaErrorNoDevice, 100) X(cudaErrorNotSupported, 801) X(cudaErrorInvalidDevice, 101) \
	X(cudaErrorMemoryAllocation, 2) X(cudaErrorInitializationError, 3) X(cudaErrorECCUncorrectable, 214) \
	X(cudaErrorNvlinkUncorrectable, 220) X(cudaErrorIllegalAddress, 700) X(cudaErrorLaunchTimeout, 702) \
	X(cudaErrorContextIsDestroyed, 709) X(cudaErrorAssert, 710) X(cudaErrorHardwareStackError, 714) \
	X(cudaErrorIllegalInstruction, 715) X(cudaErrorMisalignedAddress, 716) X(cudaErrorInvalidAddressSpace, 717) \
	X(cudaErrorInvalidPc, 718) X(cudaErrorLaunchFailure, 719) X(cudaErrorUnknown, 999) \
	X(cudaErrorHostMemoryAlreadyRegistered, 712) X(cudaErrorHostMemoryNotRegistered, 713) \
	X(cudaMemcpyHostToHost, 0) X(cudaMemcpyHostToDevice, 1) X(cudaMemcpyDeviceToHost, 2) X(cudaMemcpyDeviceToDevice, 3) \
	X(cudaMemcpyDefault, 4) \
	X(cudaStreamNonBlocking, 1) X(cudaStreamCaptureStatusNone, 0) X(cudaStreamCaptureModeRelaxed, 2) \
	X(cudaEventBlockingSync, 1) X(cudaEventDisableTiming, 2) X(cudaEventInterprocess, 4) \
	X(cudaHostRegisterPortable, 1) X(cudaHostRegisterMapped, 2) X(cudaHostAllocPortable, 1) X(cudaHostAllocMapped, 2) \
	X(cudaIpcMemLazyEnablePeerAccess, 1) \
	X(cudaDevAttrMultiProcessorCount, 16) X(cudaDevAttrAsyncEngineCount, 40) X(cudaDevAttrUnifiedAddressing, 41) \
	X(cudaDevAttrComputeCapabilityMajor, 75) X(cudaDevAttrComputeCapabilityMinor, 76) \
	X(cudaDevAttrCanUseHostPointerForRegisteredMem, 91) X(cudaDevAttrHostRegisterSupported, 99) \
	X(cudaMemoryTypeUnregistered, 0) X(cudaMemoryTypeHost, 1) X(cudaMemoryTypeDevice, 2) X(cudaMemoryTypeManaged, 3) \
	X(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 2) X(CU_POINTER_ATTRIBUTE_IS_MANAGED, 8) X(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, 9) \
	X(CU_MEMORYTYPE_HOST, 1) X(CU_MEMORYTYPE_DEVICE, 2) \
	X(CU_STREAM_WAIT_VALUE_GEQ, 0) X(CU_STREAM_WRITE_VALUE_DEFAULT, 0) \
	X(CU_STREAM_MEM_OP_WAIT_VALUE_32, 1) X(CU_STREAM_MEM_OP_WRITE_VALUE_32, 2)

#define HF_CONSTANT(name, value) HF_##name = value,
enum { HF_CONSTANTS(HF_CONSTANT) };
#undef HF_CONSTANT

// cudaIpcMemHandle_t, which is passed by value.
struct hf_ipc_handle {
	char reserved[64];
};

// cudaPointerAttributes. CUDA 13 added reserved words at its end; there is room for those and more.
struct hf_pointer_attributes {
	int type, device;
	void *device_pointer, *host_pointer;
	long reserved[16];
};

// The members waitValue and writeValue of the union CUstreamBatchMemOpParams, which are alike.
struct hf_mem_op {
	unsigned int operation;
	unsigned long long address;
	union {
		uint32_t value;
		uint64_t value64;
	};
	unsigned int flags;
	unsigned long long alias; // the driver's
	uint64_t pad;
};

// CUDA_MEMCPY2D. Arrays, as textures have them, are not used.
struct hf_copy_side {
	size_t x, y;
	unsigned int memory;
	void *host;
	unsigned long long device;
	void *array;
	size_t pitch;
};
struct hf_copy_2d {
	struct hf_copy_side src, dst;
	size_t width, height;
};

// CUDA's types, each with what has its place here.
#define HF_TYPES(X) \
	X(hf_error, cudaError_t, int) \
	X(hf_stream, cudaStream_t, void *) \
	X(hf_event, cudaEvent_t, void *) \
	X(hf_copy_kind, enum cudaMemcpyKind, int) \
	X(hf_attribute, enum cudaDeviceAttr, int) \
	X(hf_capture, enum cudaStreamCaptureStatus, int) \
	X(hf_capture_mode, enum cudaStreamCaptureMode, int) \
	X(hf_handle, cudaIpcMemHandle_t, struct hf_ipc_handle) \
	X(hf_result, CUresult, int) \
	X(hf_device, CUdevice, int) \
	X(hf_pointer_attribute, CUpointer_attribute, int) \
	X(hf_address, CUdeviceptr, unsigned long long) \
	X(hf_driver_stream, CUstream, void *) \
	X(hf_context, CUcontext, void *) \
	X(hf_mem_op_params, CUstreamBatchMemOpParams, struct hf_mem_op) \
	X(hf_copy_params, CUDA_MEMCPY2D, struct hf_copy_2d)

#ifdef HF_ABI_CHECK
#define HF_TYPE(name, real, own) typedef real name;
typedef struct cudaPointerAttributes hf_pointer_info;
#else
#define HF_TYPE(name, real, own) typedef own name;
typedef struct hf_pointer_attributes hf_pointer_info;
#endif
HF_TYPES(HF_TYPE)
#undef HF_TYPE

// The functions, as X(what it returns, name, parameters). The runtime's; all must be there.
#define HF_RUNTIME(X) \
	X(hf_error, cudaRuntimeGetVersion, (int *)) \
	X(hf_error, cudaDriverGetVersion, (int *)) \
	X(hf_error, cudaGetDeviceCount, (int *)) \
	X(hf_error, cudaGetDevice, (int *)) \
	X(hf_error, cudaSetDevice, (int)) \
	X(hf_error, cudaDeviceGetAttribute, (int *, hf_attribute, int)) \
	X(hf_error, cudaDeviceGetPCIBusId, (char *, int, int)) \
	X(hf_error, cudaDeviceGetStreamPriorityRange, (int *, int *)) \
	X(const char *, cudaGetErrorName, (hf_error)) \
	X(const char *, cudaGetErrorString, (hf_error)) \
	X(hf_error, cudaGetLastError, (void)) \
	X(hf_error, cudaMemGetInfo, (size_t *, size_t *)) \
	X(hf_error, cudaMalloc, (void **, size_t)) \
	X(hf_error, cudaFree, (void *)) \
	X(hf_error, cudaHostAlloc, (void **, size_t, unsigned int)) \
	X(hf_error, cudaFreeHost, (void *)) \
	X(hf_error, cudaHostRegister, (void *, size_t, unsigned int)) \
	X(hf_error, cudaHostUnregister, (void *)) \
	X(hf_error, cudaHostGetDevicePointer, (void **, void *, unsigned int)) \
	X(hf_error, cudaPointerGetAttributes, (hf_pointer_info *, const void *)) \
	X(hf_error, cudaMemcpy, (void *, const void *, size_t, hf_copy_kind)) \
	X(hf_error, cudaMemcpyAsync, (void *, const void *, size_t, hf_copy_kind, hf_stream)) \
	X(hf_error, cudaMemcpy2DAsync, (void *, size_t, const void *, size_t, size_t, size_t, hf_copy_kind, hf_stream)) \
	X(hf_error, cudaMemsetAsync, (void *, int, size_t, hf_stream)) \
	X(hf_error, cudaStreamCreateWithPriority, (hf_stream *, unsigned int, int)) \
	X(hf_error, cudaStreamDestroy, (hf_stream)) \
	X(hf_error, cudaStreamQuery, (hf_stream)) \
	X(hf_error, cudaStreamSynchronize, (hf_stream)) \
	X(hf_error, cudaStreamWaitEvent, (hf_stream, hf_event, unsigned int)) \
	X(hf_error, cudaStreamIsCapturing, (hf_stream, hf_capture *)) \
	X(hf_error, cudaThreadExchangeStreamCaptureMode, (hf_capture_mode *)) \
	X(hf_error, cudaEventCreateWithFlags, (hf_event *, unsigned int)) \
	X(hf_error, cudaEventDestroy, (hf_event)) \
	X(hf_error, cudaEventRecord, (hf_event, hf_stream)) \
	X(hf_error, cudaEventQuery, (hf_event)) \
	X(hf_error, cudaEventSynchronize, (hf_event)) \
	X(hf_error, cudaEventElapsedTime, (float *, hf_event, hf_event)) \
	X(hf_error, cudaDeviceSynchronize, (void)) \
	X(hf_error, cudaDeviceCanAccessPeer, (int *, int, int)) \
	X(hf_error, cudaDeviceEnablePeerAccess, (int, unsigned int)) \
	X(hf_error, cudaIpcGetMemHandle, (hf_handle *, void *)) \
	X(hf_error, cudaIpcOpenMemHandle, (void **, hf_handle, unsigned int)) \
	X(hf_error, cudaIpcCloseMemHandle, (void *))

// The driver's that must be there.
#define HF_DRIVER(X) \
	X(hf_result, cuGetErrorName, (hf_result, const char **)) \
	X(hf_result, cuGetErrorString, (hf_result, const char **)) \
	X(hf_result, cuDeviceGetName, (char *, int, hf_device))

// The driver's that may be missing. The memory operations are those of CUDA 11.7 and later only: the first ones, without
// _v2, are off by default on most machines.
#define HF_OPTIONAL(X) \
	X(hf_result, cuDriverGetVersion, (int *)) \
	X(hf_result, cuStreamWaitValue32_v2, (hf_driver_stream, hf_address, uint32_t, unsigned int)) \
	X(hf_result, cuStreamWriteValue32_v2, (hf_driver_stream, hf_address, uint32_t, unsigned int)) \
	X(hf_result, cuStreamBatchMemOp_v2, (hf_driver_stream, unsigned int, hf_mem_op_params *, unsigned int)) \
	X(hf_result, cuMemcpy2DAsync_v2, (const hf_copy_params *, hf_driver_stream)) \
	X(hf_result, cuMemGetAddressRange_v2, (hf_address *, size_t *, hf_address)) \
	X(hf_result, cuPointerGetAttribute, (void *, hf_pointer_attribute, hf_address)) \
	X(hf_result, cuCtxGetCurrent, (hf_context *)) \
	X(hf_result, cuDevicePrimaryCtxGetState, (hf_device, unsigned int *, int *))

#endif
