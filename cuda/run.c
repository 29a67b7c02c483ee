// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// The hot path: lists of commands.

#include "library.h"

_Static_assert(sizeof(struct hf_mem_op) == 48, "CUstreamBatchMemOpParams");
_Static_assert(sizeof(struct hf_copy_2d) == 128, "CUDA_MEMCPY2D");

enum { BATCH = 64 }; // memory operations that are given to CUDA at once; it takes 256

// The longest rows that the driver copies: its pitches have 31 bits (CU_DEVICE_ATTRIBUTE_MAX_PITCH).
static const uint64_t longest = INT32_MAX;

// is_driver_copy tells whether the driver shall copy. It is told which side is the host's, and need not find out for both
// addresses what they are: that takes 1.3 us where the runtime takes up to 1.9 (docs/performance.md).
static int is_driver_copy(const struct cu_command *c) {
	if (!cu_lib.cuMemcpy2DAsync_v2 || (c->value != HF_cudaMemcpyHostToDevice && c->value != HF_cudaMemcpyDeviceToHost))
		return 0;
	return c->op == CU_COPY ? c->bytes > 0 && c->bytes <= longest
		: c->op == CU_COPY_2D && c->bytes > 0 && c->height > 0 && c->dst_pitch <= longest && c->src_pitch <= longest;
}

static struct cu_result driver_copy(const struct cu_command *c) {
	int plain = c->op == CU_COPY, to_host = c->value == HF_cudaMemcpyDeviceToHost;
	hf_copy_params p = {
		.src = { .memory = to_host ? HF_CU_MEMORYTYPE_DEVICE : HF_CU_MEMORYTYPE_HOST, .pitch = plain ? c->bytes : c->src_pitch },
		.dst = { .memory = to_host ? HF_CU_MEMORYTYPE_HOST : HF_CU_MEMORYTYPE_DEVICE, .pitch = plain ? c->bytes : c->dst_pitch },
		.width = c->bytes, .height = plain ? 1 : c->height,
	};
	if (to_host)
		p.src.device = c->src, p.dst.host = (void *)c->dst;
	else
		p.src.host = (void *)c->src, p.dst.device = c->dst;
	return CALL(cuMemcpy2DAsync_v2, &p, (hf_driver_stream)c->stream);
}

static int is_memory_operation(const struct cu_command *c) { return c->op == CU_WRITE || c->op == CU_WAIT; }

static struct cu_result memory_operation(const struct cu_command *c) {
	if (c->op == CU_WRITE)
		return CALL(cuStreamWriteValue32_v2, (hf_driver_stream)c->stream, c->dst, c->value, HF_CU_STREAM_WRITE_VALUE_DEFAULT);
	return CALL(cuStreamWaitValue32_v2, (hf_driver_stream)c->stream, c->dst, c->value, HF_CU_STREAM_WAIT_VALUE_GEQ);
}

// batch_length counts the memory operations at the start of the list that one call can do.
static int batch_length(const struct cu_command *list, int n) {
	int length = 0;
	while (length < n && length < BATCH && is_memory_operation(&list[length]) && list[length].stream == list[0].stream)
		length++;
	return length;
}

static struct cu_result batch(const struct cu_command *list, int n) {
	struct hf_mem_op ops[BATCH];
	for (int i = 0; i < n; i++) {
		int write = list[i].op == CU_WRITE;
		ops[i] = (struct hf_mem_op){
			.operation = write ? HF_CU_STREAM_MEM_OP_WRITE_VALUE_32 : HF_CU_STREAM_MEM_OP_WAIT_VALUE_32,
			.address = list[i].dst, .value = list[i].value,
			.flags = write ? HF_CU_STREAM_WRITE_VALUE_DEFAULT : HF_CU_STREAM_WAIT_VALUE_GEQ,
		};
	}
	return CALL(cuStreamBatchMemOp_v2, (hf_driver_stream)list[0].stream, n, ops, 0);
}

static struct cu_result one(const struct cu_command *c) {
	hf_stream stream = (hf_stream)c->stream;
	void *dst = (void *)c->dst, *src = (void *)c->src;
	if (is_driver_copy(c))
		return driver_copy(c);
	switch (c->op) {
	case CU_COPY:
		return CALL(cudaMemcpyAsync, dst, src, c->bytes, c->value, stream);
	case CU_COPY_2D:
		return CALL(cudaMemcpy2DAsync, dst, c->dst_pitch, src, c->src_pitch, c->bytes, c->height, c->value, stream);
	case CU_FILL:
		return CALL(cudaMemsetAsync, dst, c->value, c->bytes, stream);
	case CU_RECORD:
		return CALL(cudaEventRecord, (hf_event)c->dst, stream);
	case CU_WAIT_EVENT:
		return CALL(cudaStreamWaitEvent, stream, (hf_event)c->dst, 0);
	default:
		return memory_operation(c);
	}
}

struct cu_ran cu_run(int device, const struct cu_command *list, int n, int features) {
	struct cu_thread before;
	int done = 0, bound = 0;
	struct cu_result r = cu_enter(device, &before);
	if (r.code != HF_cudaSuccess)
		return (struct cu_ran){ .code = r.code, .call = r.call };
	while (done < n) {
		if (!bound && (is_memory_operation(list + done) || is_driver_copy(list + done))) {
			r = cu_bind_context();
			if (r.code != HF_cudaSuccess)
				break;
			bound = 1;
		}
		int length = features & CU_BATCHES ? batch_length(list + done, n - done) : 0;
		r = length > 1 ? batch(list + done, length) : one(list + done);
		if (r.code != HF_cudaSuccess)
			break;
		done += length > 1 ? length : 1;
	}
	r = cu_leave(device, &before, r);
	return (struct cu_ran){ .code = r.code, .call = r.call, .done = done };
}
