// SPDX-License-Identifier: Apache-2.0

// Holds cuda/abi.h against CUDA's headers: it compiles if they agree (make check-cuda-abi). Nothing else includes it.

#include <cuda.h>
#include <cuda_runtime_api.h>

#define HF_ABI_CHECK
#include "../abi.h"

#if CUDART_VERSION < 11080 || CUDA_VERSION < 11080
#error "the headers are of a CUDA before 11.8, which abi.h does not describe"
#endif

#define CONSTANT(name, value) _Static_assert((long)(name) == (value), #name " is not " #value);
HF_CONSTANTS(CONSTANT)

#define TYPE(name, real, own) \
	_Static_assert(sizeof(real) == sizeof(own), #real " has not the size of " #own); \
	_Static_assert(_Alignof(real) == _Alignof(own), #real " is not aligned as " #own);
HF_TYPES(TYPE)

#define FUNCTION(result, name, parameters) \
	_Static_assert(__builtin_types_compatible_p(__typeof__(&name), result(*) parameters), #name " is not " #result #parameters);
HF_RUNTIME(FUNCTION)
HF_DRIVER(FUNCTION)
HF_OPTIONAL(FUNCTION)

#define OFFSET(real, member, own, ours) \
	_Static_assert(offsetof(real, member) == offsetof(own, ours), #real "." #member); \
	_Static_assert(sizeof(((real *)0)->member) == sizeof(((own *)0)->ours), #real "." #member);

// Newer CUDA may add members at the end.
_Static_assert(sizeof(struct cudaPointerAttributes) <= sizeof(struct hf_pointer_attributes), "cudaPointerAttributes has grown");
OFFSET(struct cudaPointerAttributes, type, struct hf_pointer_attributes, type)
OFFSET(struct cudaPointerAttributes, device, struct hf_pointer_attributes, device)
OFFSET(struct cudaPointerAttributes, devicePointer, struct hf_pointer_attributes, device_pointer)
OFFSET(struct cudaPointerAttributes, hostPointer, struct hf_pointer_attributes, host_pointer)

OFFSET(CUstreamBatchMemOpParams, operation, struct hf_mem_op, operation)
OFFSET(CUstreamBatchMemOpParams, waitValue.address, struct hf_mem_op, address)
OFFSET(CUstreamBatchMemOpParams, waitValue.value, struct hf_mem_op, value)
OFFSET(CUstreamBatchMemOpParams, waitValue.value64, struct hf_mem_op, value64)
OFFSET(CUstreamBatchMemOpParams, waitValue.flags, struct hf_mem_op, flags)
OFFSET(CUstreamBatchMemOpParams, waitValue.alias, struct hf_mem_op, alias)
OFFSET(CUstreamBatchMemOpParams, writeValue.address, struct hf_mem_op, address)
OFFSET(CUstreamBatchMemOpParams, writeValue.value, struct hf_mem_op, value)
OFFSET(CUstreamBatchMemOpParams, writeValue.value64, struct hf_mem_op, value64)
OFFSET(CUstreamBatchMemOpParams, writeValue.flags, struct hf_mem_op, flags)
OFFSET(CUstreamBatchMemOpParams, writeValue.alias, struct hf_mem_op, alias)

OFFSET(CUDA_MEMCPY2D, srcXInBytes, struct hf_copy_2d, src.x)
OFFSET(CUDA_MEMCPY2D, srcY, struct hf_copy_2d, src.y)
OFFSET(CUDA_MEMCPY2D, srcMemoryType, struct hf_copy_2d, src.memory)
OFFSET(CUDA_MEMCPY2D, srcHost, struct hf_copy_2d, src.host)
OFFSET(CUDA_MEMCPY2D, srcDevice, struct hf_copy_2d, src.device)
OFFSET(CUDA_MEMCPY2D, srcArray, struct hf_copy_2d, src.array)
OFFSET(CUDA_MEMCPY2D, srcPitch, struct hf_copy_2d, src.pitch)
OFFSET(CUDA_MEMCPY2D, dstXInBytes, struct hf_copy_2d, dst.x)
OFFSET(CUDA_MEMCPY2D, dstY, struct hf_copy_2d, dst.y)
OFFSET(CUDA_MEMCPY2D, dstMemoryType, struct hf_copy_2d, dst.memory)
OFFSET(CUDA_MEMCPY2D, dstHost, struct hf_copy_2d, dst.host)
OFFSET(CUDA_MEMCPY2D, dstDevice, struct hf_copy_2d, dst.device)
OFFSET(CUDA_MEMCPY2D, dstArray, struct hf_copy_2d, dst.array)
OFFSET(CUDA_MEMCPY2D, dstPitch, struct hf_copy_2d, dst.pitch)
OFFSET(CUDA_MEMCPY2D, WidthInBytes, struct hf_copy_2d, width)
OFFSET(CUDA_MEMCPY2D, Height, struct hf_copy_2d, height)
