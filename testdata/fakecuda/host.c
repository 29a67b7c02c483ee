// SPDX-License-Identifier: Apache-2.0

// Host memory that devices reach: registered, or allocated for it.

#define _GNU_SOURCE
#include "fakecuda.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FRESH = 0xA5 };

static bool mapped(uintptr_t page, size_t bytes) {
	unsigned char *vector = malloc(bytes / 4096 + 1);
	if (!vector)
		return false;
	bool whole = mincore((void *)page, bytes, vector) == 0;
	free(vector);
	return whole;
}

// overlaps tells whether a page of the range belongs to a block of host memory already.
static bool overlaps(uintptr_t page, size_t bytes) {
	for (struct block *b = fc.blocks; b; b = b->next) {
		if (b->kind != REGISTERED && b->kind != HOST_MEMORY)
			continue;
		uintptr_t other = (uintptr_t)b->host & ~4095ul;
		if (page < other + b->mapped && other < page + bytes)
			return true;
	}
	return false;
}

static int add(char *p, size_t bytes, unsigned flags, enum block_kind kind) {
	uintptr_t page = (uintptr_t)p & ~4095ul;
	size_t pages = fc_pages((uintptr_t)p + bytes - page);
	if (overlaps(page, pages))
		return HOST_ALREADY_REGISTERED;
	struct block *b = calloc(1, sizeof *b);
	if (!b)
		return MEMORY_ALLOCATION;
	b->kind = kind;
	b->device = fc_current_ordinal();
	b->flags = flags;
	b->host = p;
	b->address = (uintptr_t)p + fc_host_offset();
	b->bytes = bytes;
	b->mapped = pages;
	b->fd = -1;
	fc_block_add(b);
	fc_count(REGISTRATIONS_LIVE, 1);
	return SUCCESS;
}

// take removes a block. That no operation uses it is the caller's duty, which the real thing does not check.
static int take(void *p, enum block_kind kind, const char *call, size_t *bytes) {
	fc_lock();
	struct block *b = fc_block_at((uintptr_t)p, kind);
	if (!b) {
		fc_unlock();
		return kind == REGISTERED ? HOST_NOT_REGISTERED : INVALID_VALUE;
	}
	// Of a device that failed, the running operation ends soon, and what is queued is dropped.
	while (b->pins && fc_failed(fc_current()))
		fc_wait();
	if (b->pins)
		fc_bug("%s of host memory at %p, %zu bytes, that %d operations use", call, p, b->bytes, b->pins);
	fc_block_remove(b);
	*bytes = b->mapped;
	free(b);
	fc_unlock();
	fc_count(REGISTRATIONS_LIVE, -1);
	return SUCCESS;
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags) {
	ENTER_DEVICE();
	uintptr_t page = (uintptr_t)p & ~4095ul;
	if (!p || !bytes || bytes > UINTPTR_MAX / 2 || flags & ~(unsigned)(HOST_PORTABLE | HOST_MAPPED))
		return fc_fail(INVALID_VALUE);
	fc_lock();
	int error = INVALID_VALUE;
	if (!fc_in_arena((uintptr_t)p) && mapped(page, fc_pages((uintptr_t)p + bytes - page)))
		error = add(p, bytes, flags, REGISTERED);
	fc_unlock();
	return fc_fail(error);
}

cudaError_t cudaHostUnregister(void *p) {
	int failed = fc_enter_device(__func__);
	if (failed && !fc_failed(fc_current()))
		return failed;
	size_t bytes;
	int error = take(p, REGISTERED, __func__, &bytes);
	return fc_fail(failed ? failed : error);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags) {
	ENTER_DEVICE();
	if (!p || flags & ~(unsigned)(HOST_PORTABLE | HOST_MAPPED | HOST_WRITE_COMBINED))
		return fc_fail(INVALID_VALUE);
	*p = NULL;
	if (!bytes)
		return SUCCESS;
	void *at = bytes > UINTPTR_MAX / 2 ? MAP_FAILED : mmap(NULL, fc_pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return fc_fail(MEMORY_ALLOCATION);
	memset(at, FRESH, fc_pages(bytes));
	fc_lock();
	int error = add(at, bytes, flags, HOST_MEMORY);
	fc_unlock();
	if (error)
		munmap(at, fc_pages(bytes));
	else
		*p = at;
	return fc_fail(error);
}

cudaError_t cudaFreeHost(void *p) {
	int failed = fc_enter_device(__func__);
	if ((failed && !fc_failed(fc_current())) || !p)
		return failed;
	size_t bytes = 0;
	int error = take(p, HOST_MEMORY, __func__, &bytes);
	if (!error)
		munmap(p, bytes);
	return fc_fail(failed ? failed : error);
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags) {
	ENTER_DEVICE();
	if (!device || flags)
		return fc_fail(INVALID_VALUE);
	fc_lock();
	struct found f = fc_find((uintptr_t)host, 1);
	int error = INVALID_VALUE;
	if (f.block && f.at == host && f.block->flags & HOST_MAPPED) {
		*device = f.at + fc_host_offset();
		error = SUCCESS;
	}
	fc_unlock();
	return fc_fail(error);
}
