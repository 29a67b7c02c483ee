// SPDX-License-Identifier: Apache-2.0

// Memory operations of streams: waits for the value of a word, and writes of one.

#include "fakecuda.h"

#include <stdlib.h>

enum { MOST = 256 }; // operations of one batch

// word finds the word of a memory operation. Its address must be one that the device can use.
static int word(struct stream *s, CUdeviceptr address, int bytes, struct side *side) {
	if (address % (unsigned)bytes)
		return INVALID_VALUE;
	struct found f = fc_find(address, (size_t)bytes);
	if (!f.whole || !f.by_device)
		return INVALID_VALUE;
	bool host = f.block->kind == REGISTERED || f.block->kind == HOST_MEMORY;
	if (host && !(f.block->flags & HOST_MAPPED))
		return INVALID_VALUE;
	if (f.block->kind == DEVICE_MEMORY && f.block->device != s->device->ordinal && !s->device->peers[f.block->device])
		return INVALID_VALUE;
	*side = (struct side){.block = f.block, .at = f.at};
	return SUCCESS;
}

static bool flags_fit(enum op_kind kind, unsigned flags) {
	if (kind == OP_WAIT)
		return (flags & ~(unsigned)WAIT_FLUSH) <= WAIT_NOR;
	return flags <= WRITE_NO_BARRIER;
}

// translate makes an operation of a stream of one of a batch.
static int translate(struct stream *s, const CUstreamBatchMemOpParams *p, struct op **out) {
	if (p->operation == MEMOP_FLUSH || p->operation == MEMOP_BARRIER) {
		*out = fc_op(OP_FENCE);
		return SUCCESS;
	}
	if (p->operation < MEMOP_WAIT_32 || p->operation > MEMOP_WRITE_64)
		return INVALID_VALUE;
	bool waits = p->operation == MEMOP_WAIT_32 || p->operation == MEMOP_WAIT_64;
	int bytes = p->operation == MEMOP_WAIT_32 || p->operation == MEMOP_WRITE_32 ? 4 : 8;
	enum op_kind kind = waits ? OP_WAIT : OP_WRITE;
	struct side side;
	int error = flags_fit(kind, p->word.flags) ? word(s, p->word.address, bytes, &side) : INVALID_VALUE;
	if (error)
		return error;
	*out = fc_op(kind);
	(*out)->dst = side;
	(*out)->bytes = bytes;
	(*out)->flags = p->word.flags;
	(*out)->value = bytes == 4 ? (uint32_t)p->word.value : p->word.value;
	return SUCCESS;
}

// issue gives all of a batch to a stream, or nothing.
static int issue(cudaStream_t stream, unsigned count, const CUstreamBatchMemOpParams *params) {
	int error;
	struct stream *s = fc_stream_begin(stream, &error);
	if (!s)
		return error;
	struct op *ops[MOST];
	unsigned made = 0;
	if (s->device != fc_current())
		error = INVALID_HANDLE;
	while (!error && made < count) {
		error = translate(s, &params[made], &ops[made]);
		made += !error;
	}
	for (unsigned i = 0; i < made; i++) {
		if (error)
			free(ops[i]);
		else
			fc_issue(s, ops[i]);
	}
	fc_stream_end(s);
	return error;
}

static int one(int operation, cudaStream_t stream, CUdeviceptr address, uint32_t value, unsigned flags) {
	if (fc_config.no_memops)
		return NOT_SUPPORTED;
	CUstreamBatchMemOpParams p = {.word = {.operation = operation, .address = address, .value = value, .flags = flags}};
	return issue(stream, 1, &p);
}

int cuStreamWaitValue32_v2(cudaStream_t stream, CUdeviceptr address, uint32_t value, unsigned flags) {
	ENTER_DRIVER_DEVICE();
	return one(MEMOP_WAIT_32, stream, address, value, flags);
}

int cuStreamWriteValue32_v2(cudaStream_t stream, CUdeviceptr address, uint32_t value, unsigned flags) {
	ENTER_DRIVER_DEVICE();
	return one(MEMOP_WRITE_32, stream, address, value, flags);
}

int cuStreamBatchMemOp_v2(cudaStream_t stream, unsigned count, CUstreamBatchMemOpParams *ops, unsigned flags) {
	ENTER_DRIVER_DEVICE();
	if (fc_config.no_memops || fc_config.no_batch)
		return NOT_SUPPORTED;
	if (!ops || !count || count > MOST || flags)
		return INVALID_VALUE;
	return issue(stream, count, ops);
}
