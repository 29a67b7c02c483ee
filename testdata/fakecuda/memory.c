// SPDX-License-Identifier: Apache-2.0

// Device memory, and what a pointer points to.

#define _GNU_SOURCE
#include "fakecuda.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FRESH = 0xA5, FREED = 0xDD }; // what memory holds that nobody wrote yet, or that was given back

// map gives a block its memory and its address.
static int map(struct block *b) {
	struct stat about;
	b->fd = memfd_create("fakecuda", MFD_CLOEXEC);
	if (b->fd < 0)
		return MEMORY_ALLOCATION;
	if (ftruncate(b->fd, (off_t)fc_pages(b->bytes)) != 0 || fstat(b->fd, &about) != 0 || fc_device_map(b) != 0) {
		close(b->fd);
		return MEMORY_ALLOCATION;
	}
	b->inode = about.st_ino;
	return SUCCESS;
}

// allocate makes device memory. The issue lock alone is held while it is filled, which takes long where there is much.
static int allocate(struct device *d, size_t bytes, struct block **out) {
	if (d->error)
		return d->error;
	if (bytes > fc_config.memory - d->used)
		return MEMORY_ALLOCATION;
	struct block *b = calloc(1, sizeof *b);
	if (!b)
		return MEMORY_ALLOCATION;
	*b = (struct block){.kind = DEVICE_MEMORY, .device = d->ordinal, .bytes = bytes};
	if (map(b) != 0) {
		free(b);
		return MEMORY_ALLOCATION;
	}
	d->used += bytes;
	fc_unlock();
	memset(b->host, FRESH, b->mapped);
	fc_lock();
	fc_block_add(b);
	*out = b;
	return SUCCESS;
}

cudaError_t cudaMalloc(void **p, size_t bytes) {
	ENTER_DEVICE();
	if (!p)
		return fc_fail(INVALID_VALUE);
	*p = NULL;
	if (!bytes)
		return SUCCESS;
	struct device *d = fc_current();
	struct block *b = NULL;
	fc_lock_issue(d);
	if (fc_config.malloc_syncs)
		fc_drain(d);
	int error = allocate(d, bytes, &b);
	if (!error) {
		*p = (void *)b->address;
		fc_count(ALLOCATIONS_LIVE, 1);
	}
	fc_unlock_issue(d);
	return fc_fail(error);
}

static int release(struct device *d, struct block *b) {
	fc_drain(d);
	if (!d->error && b->pins)
		fc_bug("cudaFree of memory at %p that %d operations of other devices use", (void *)b->address, b->pins);
	// Of a device that failed, an operation may still be running.
	while (b->pins)
		fc_wait();
	fc_block_remove(b);
	d->used -= b->bytes;
	fc_unlock();
	memset(b->host, FREED, b->mapped); // other processes may have it open
	fc_device_unmap(b);
	fc_lock();
	fc_count(ALLOCATIONS_LIVE, -1);
	return d->error;
}

// cudaFree waits for all work of the device, and keeps others from issuing any meanwhile, as CUDA does: a thread that
// would have to issue what that work waits for never gets to it.
cudaError_t cudaFree(void *p) {
	int failed = fc_enter_device(__func__);
	if ((failed && !fc_failed(fc_current())) || !p)
		return failed;
	fc_lock();
	struct block *b = fc_block_at((uintptr_t)p, DEVICE_MEMORY);
	struct device *d = b ? &fc.device[b->device] : NULL;
	fc_unlock();
	if (!d)
		return fc_fail(INVALID_VALUE);
	fc_lock_issue(d);
	b = fc_block_at((uintptr_t)p, DEVICE_MEMORY);
	int error = b ? release(d, b) : INVALID_VALUE;
	fc_unlock_issue(d);
	return fc_fail(failed ? failed : error);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
	ENTER_DEVICE();
	if (!free_bytes || !total)
		return fc_fail(INVALID_VALUE);
	fc_lock();
	*free_bytes = fc_config.memory - fc_current()->used;
	*total = fc_config.memory;
	fc_unlock();
	return SUCCESS;
}

static bool is_host(const struct block *b) { return b->kind == REGISTERED || b->kind == HOST_MEMORY; }

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *p) {
	ENTER_DEVICE();
	if (!attributes || !p)
		return fc_fail(INVALID_VALUE);
	if (fc_config.version >= 13000) // it is longer there: who left too little room is found
		memset(attributes + 1, 0, 8 * sizeof(long));
	*attributes = (struct cudaPointerAttributes){.type = POINTER_UNREGISTERED, .device = -2};
	fc_lock();
	struct found f = fc_find((uintptr_t)p, 1);
	if (f.block && is_host(f.block)) {
		void *device = f.block->flags & HOST_MAPPED ? f.at + fc_host_offset() : NULL;
		*attributes = (struct cudaPointerAttributes){POINTER_HOST, f.block->device, device, f.at};
	} else if (f.block) {
		*attributes = (struct cudaPointerAttributes){POINTER_DEVICE, f.block->device, (void *)(uintptr_t)p, NULL};
	}
	fc_unlock();
	return SUCCESS;
}

int cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr p) {
	ENTER_DRIVER_DEVICE();
	fc_lock();
	struct found f = fc_find(p, 1);
	bool known = f.block && !is_host(f.block);
	if (known && base)
		*base = f.block->address;
	if (known && bytes)
		*bytes = f.block->bytes;
	fc_unlock();
	return known ? SUCCESS : NOT_FOUND;
}

// pointer_attribute knows those that programs ask for most.
static int pointer_attribute(void *value, int attribute, const struct found *f) {
	const struct block *b = f->block;
	bool host = is_host(b);
	switch (attribute) {
	case 2: // memory type: 1 host, 2 device
		*(int *)value = host ? 1 : 2;
		return SUCCESS;
	case 3: // device pointer
		*(CUdeviceptr *)value = b->address + (CUdeviceptr)(f->at - b->host);
		return SUCCESS;
	case 4: // host pointer
		if (!host)
			return INVALID_VALUE;
		*(void **)value = f->at;
		return SUCCESS;
	case 8: // managed
		*(int *)value = 0;
		return SUCCESS;
	case 9: // device
		*(int *)value = b->device;
		return SUCCESS;
	case 11: // start of the range
		*(CUdeviceptr *)value = b->address;
		return SUCCESS;
	case 12: // size of the range
		*(size_t *)value = b->bytes;
		return SUCCESS;
	default:
		return NOT_SUPPORTED;
	}
}

int cuPointerGetAttribute(void *value, int attribute, CUdeviceptr p) {
	ENTER_DRIVER();
	if (!value)
		return INVALID_VALUE;
	fc_lock();
	struct found f = fc_find(p, 1);
	int error = f.block ? fc_failed(&fc.device[f.block->device]) : INVALID_VALUE;
	if (!error)
		error = pointer_attribute(value, attribute, &f);
	fc_unlock();
	return error;
}
