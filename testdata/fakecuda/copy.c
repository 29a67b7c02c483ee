// SPDX-License-Identifier: Apache-2.0

// Copies, and filling with a byte: their arguments are checked when they are issued.

#include "fakecuda.h"

#include <stdlib.h>

// area is one side of a copy as the caller gives it.
struct area {
	uintptr_t address;
	size_t pitch;
	bool device; // what the kind of the copy says
};

static bool is_device(const struct block *b) { return b && (b->kind == DEVICE_MEMORY || b->kind == IPC_MEMORY); }

// resolve finds the memory of one side. Part of it in a block and part not is an error, as it is to CUDA.
static int resolve(const struct area *a, size_t width, size_t height, struct side *side) {
	size_t bytes = (height - 1) * a->pitch + width;
	struct found f = fc_find(a->address, bytes);
	if (f.block && !f.whole)
		return INVALID_VALUE;
	if (!f.block && (!a->address || fc_in_arena(a->address)))
		return INVALID_VALUE;
	*side = (struct side){f.block, f.block ? f.at : (char *)a->address, a->pitch};
	return SUCCESS;
}

static bool fits(int kind, bool from, bool to) {
	switch (kind) {
	case COPY_HOST_TO_HOST:
		return !from && !to;
	case COPY_HOST_TO_DEVICE:
		return !from && to;
	case COPY_DEVICE_TO_HOST:
		return from && !to;
	case COPY_DEVICE_TO_DEVICE:
		return from && to;
	default:
		return kind == COPY_DEFAULT;
	}
}

// issue checks and issues a copy, and tells whether a side is pageable: such a copy is not asynchronous.
static int issue(struct stream *s, struct op *op, struct area dst, struct area src, int kind, bool *pageable) {
	int error = resolve(&dst, op->width, op->height, &op->dst);
	if (!error)
		error = resolve(&src, op->width, op->height, &op->src);
	if (error)
		return error;
	if (!fits(kind, is_device(op->src.block), is_device(op->dst.block)))
		return INVALID_VALUE;
	*pageable = !op->dst.block || !op->src.block;
	if (*pageable) {
		if (fc_config.strict && (is_device(op->dst.block) || is_device(op->src.block)))
			return INVALID_VALUE;
		fc_count(COPIES_PAGEABLE, 1);
	}
	fc_issue(s, op);
	return SUCCESS;
}

static int copy(struct area dst, struct area src, size_t width, size_t height, int kind, cudaStream_t stream, bool blocking) {
	if (kind < COPY_HOST_TO_HOST || kind > COPY_DEFAULT)
		return INVALID_VALUE;
	if (dst.pitch < width || src.pitch < width)
		return INVALID_PITCH;
	if (height && (dst.pitch > PTRDIFF_MAX / height || src.pitch > PTRDIFF_MAX / height))
		return INVALID_VALUE;
	int error;
	struct stream *s = fc_stream_begin(stream, &error);
	if (!s)
		return error;
	if (!width || !height) {
		fc_stream_end(s);
		return SUCCESS;
	}
	struct op *op = fc_op(OP_COPY);
	op->width = width;
	op->height = height;
	bool pageable = false;
	error = issue(s, op, dst, src, kind, &pageable);
	if (error)
		free(op);
	uint64_t until = s->issued;
	s->holds++;
	fc_stream_end(s);
	fc_lock();
	s->holds--;
	if (!error && (pageable || blocking))
		error = fc_stream_wait(s, until);
	else
		fc_stream_release(s);
	fc_unlock();
	return error;
}

static struct area line(const void *p, size_t bytes) { return (struct area){.address = (uintptr_t)p, .pitch = bytes}; }

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, int kind, cudaStream_t stream) {
	ENTER_DEVICE();
	return fc_fail(copy(line(dst, bytes), line(src, bytes), bytes, 1, kind, stream, false));
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, int kind) {
	ENTER_DEVICE();
	return fc_fail(copy(line(dst, bytes), line(src, bytes), bytes, 1, kind, 0, true));
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width, size_t height, int kind,
                              cudaStream_t stream) {
	ENTER_DEVICE();
	return fc_fail(copy(line(dst, dst_pitch), line(src, src_pitch), width, height, kind, stream, false));
}

// driver_area is one side of a copy of the driver, which names the memory's kind and has an offset; false if it is not known here.
static bool driver_area(unsigned kind, const void *host, CUdeviceptr device, size_t x, size_t y, size_t pitch, struct area *out) {
	*out = line(kind == POINTER_HOST ? host : (const void *)device, pitch);
	out->address += y * pitch + x;
	return kind == POINTER_HOST || kind == POINTER_DEVICE;
}

int cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *c, cudaStream_t stream) {
	static const int kinds[2][2] = {{COPY_HOST_TO_HOST, COPY_HOST_TO_DEVICE}, {COPY_DEVICE_TO_HOST, COPY_DEVICE_TO_DEVICE}};
	struct area dst, src;
	ENTER_DRIVER_DEVICE();
	if (!c || !driver_area(c->srcMemoryType, c->srcHost, c->srcDevice, c->srcXInBytes, c->srcY, c->srcPitch, &src) ||
	    !driver_area(c->dstMemoryType, c->dstHost, c->dstDevice, c->dstXInBytes, c->dstY, c->dstPitch, &dst))
		return INVALID_VALUE;
	if (dst.pitch > INT32_MAX || src.pitch > INT32_MAX || dst.pitch < c->WidthInBytes || src.pitch < c->WidthInBytes)
		return INVALID_VALUE;
	int kind = kinds[c->srcMemoryType == POINTER_DEVICE][c->dstMemoryType == POINTER_DEVICE];
	return copy(dst, src, c->WidthInBytes, c->Height, kind, stream, false);
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream) {
	ENTER_DEVICE();
	int error;
	struct stream *s = fc_stream_begin(stream, &error);
	if (!s)
		return fc_fail(error);
	struct found f = fc_find((uintptr_t)dst, bytes);
	if (bytes && !f.whole) {
		error = INVALID_VALUE;
	} else if (s->device != fc_current()) {
		// It is a kernel, and those need the device of the stream to be current.
		error = INVALID_HANDLE;
	} else if (bytes) {
		struct op *op = fc_op(OP_SET);
		op->dst = (struct side){f.block, f.at, bytes};
		op->width = bytes;
		op->value = (unsigned char)value;
		fc_issue(s, op);
	}
	fc_stream_end(s);
	return fc_fail(error);
}
