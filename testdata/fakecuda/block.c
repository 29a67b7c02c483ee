// SPDX-License-Identifier: Apache-2.0

// The ranges of memory that CUDA knows of, and the addresses of devices.
//
// A device has arenas of addresses that are reserved and never mapped to anything, so that the program faults where it
// takes one for its own. The memory is a memfd that the fake maps elsewhere. Addresses are not used again, so that one that
// is used after cudaFree is found.

#define _GNU_SOURCE
#include "fakecuda.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096 };
static const uintptr_t arena_bytes = 1ul << 36;

// arenas are never given back.
static struct arena {
	uintptr_t start, end;
} arenas[1024];
static int arena_count;

size_t fc_pages(size_t bytes) { return (bytes + PAGE - 1) & ~(size_t)(PAGE - 1); }

// fc_host_offset is what is added to the address of host memory to get the one of the device. No program has memory there.
uintptr_t fc_host_offset(void) { return fc_config.host_offset ? 1ul << 48 : 0; }

static bool on_device(const struct block *b) { return b->kind == DEVICE_MEMORY || b->kind == IPC_MEMORY; }

bool fc_in_arena(uintptr_t address) {
	for (int i = 0; i < arena_count; i++)
		if (address >= arenas[i].start && address < arenas[i].end)
			return true;
	return false;
}

// reserve sees to it that the device has addresses for a block and a page behind it. The plain system call: sanitizers would
// fill their shadow of so large a mapping.
static bool reserve(struct device *d, size_t bytes) {
	if (d->end - d->free > bytes)
		return true;
	uintptr_t size = bytes < arena_bytes ? arena_bytes : bytes + PAGE;
	long p = syscall(SYS_mmap, NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == -1 || arena_count == sizeof arenas / sizeof *arenas)
		return false;
	d->free = (uintptr_t)p;
	d->end = d->free + size;
	arenas[arena_count++] = (struct arena){d->free, d->end};
	return true;
}

int fc_device_map(struct block *b) {
	struct device *d = &fc.device[b->device];
	b->mapped = fc_pages(b->bytes);
	if (!reserve(d, b->mapped))
		return MEMORY_ALLOCATION;
	b->host = mmap(NULL, b->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	if (b->host == MAP_FAILED)
		return MEMORY_ALLOCATION;
	b->address = d->free;
	d->free += b->mapped + PAGE;
	return SUCCESS;
}

void fc_device_unmap(struct block *b) {
	munmap(b->host, b->mapped);
	close(b->fd);
	free(b);
}

void fc_block_add(struct block *b) {
	b->next = fc.blocks;
	fc.blocks = b;
}

void fc_block_remove(struct block *b) {
	struct block **at = &fc.blocks;
	while (*at != b)
		at = &(*at)->next;
	*at = b->next;
}

// fc_block_at returns the block that begins at an address: the program's, where it is host memory.
struct block *fc_block_at(uintptr_t address, enum block_kind kind) {
	for (struct block *b = fc.blocks; b; b = b->next)
		if (b->kind == kind && address == (on_device(b) ? b->address : (uintptr_t)b->host))
			return b;
	return NULL;
}

static bool overlap(uintptr_t a, size_t n, uintptr_t b, size_t m) { return a < b + m && b < a + n; }

static bool inside(uintptr_t a, size_t n, uintptr_t b, size_t m) { return a >= b && n <= m && a - b <= m - n; }

// fc_find looks for the block in which a range lies. It finds one that the range only touches, too, and says so.
struct found fc_find(uintptr_t address, size_t bytes) {
	struct found found = {0};
	for (struct block *b = fc.blocks; b; b = b->next) {
		const uintptr_t starts[] = {b->address, (uintptr_t)b->host};
		for (int i = 0; i < (on_device(b) ? 1 : 2); i++) {
			if (!overlap(address, bytes, starts[i], b->bytes))
				continue;
			found = (struct found){b, inside(address, bytes, starts[i], b->bytes), i == 0, b->host + (address - starts[i])};
			if (found.whole)
				return found;
		}
	}
	return found;
}
