// SPDX-License-Identifier: Apache-2.0

// Device memory of other processes. A handle names the memfd by its process and number there, and by its inode, as a number
// may mean another file by the time the handle is used.

#include "fakecuda.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t magic = 0x6475636b61666b65;

struct name {
	uint64_t magic, inode, bytes;
	int pid, fd, device;
};
_Static_assert(sizeof(struct name) <= sizeof(cudaIpcMemHandle_t), "handle");

// cudaIpcGetMemHandle names the whole allocation, wherever in it the pointer points.
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *p) {
	ENTER_DEVICE();
	if (!handle)
		return fc_fail(INVALID_VALUE);
	fc_lock();
	struct found f = fc_find((uintptr_t)p, 1);
	bool known = f.block && f.block->kind == DEVICE_MEMORY;
	if (known) {
		struct block *b = f.block;
		struct name n = {.magic = magic, .inode = b->inode, .bytes = b->bytes, .pid = getpid(), .fd = b->fd, .device = b->device};
		memset(handle, 0, sizeof *handle);
		memcpy(handle, &n, sizeof n);
	}
	fc_unlock();
	return fc_fail(known ? SUCCESS : INVALID_VALUE);
}

static int open_file(const struct name *n) {
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/fd/%d", n->pid, n->fd);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat about;
	if (fd >= 0 && (fstat(fd, &about) != 0 || about.st_ino != n->inode || (uint64_t)about.st_size < n->bytes)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static struct block *opened(uint64_t inode) {
	for (struct block *b = fc.blocks; b; b = b->next)
		if (b->kind == IPC_MEMORY && b->inode == inode)
			return b;
	return NULL;
}

static int map(const struct name *n, struct block **out) {
	struct block *b = calloc(1, sizeof *b);
	if (!b)
		return MEMORY_ALLOCATION;
	b->kind = IPC_MEMORY;
	b->device = n->device >= 0 && n->device < fc_config.devices ? n->device : fc_current_ordinal();
	b->bytes = n->bytes;
	b->inode = n->inode;
	b->fd = open_file(n);
	int error = b->fd < 0 ? INVALID_VALUE : fc_device_map(b);
	if (error) {
		if (b->fd >= 0)
			close(b->fd);
		free(b);
		return error;
	}
	fc_block_add(b);
	*out = b;
	return SUCCESS;
}

// cudaIpcOpenMemHandle returns the address that it returned before if the memory is open already.
cudaError_t cudaIpcOpenMemHandle(void **p, cudaIpcMemHandle_t handle, unsigned flags) {
	ENTER_DEVICE();
	struct name n;
	memcpy(&n, &handle, sizeof n);
	if (!p || flags != IPC_LAZY_PEER_ACCESS || n.magic != magic || n.pid == getpid())
		return fc_fail(INVALID_VALUE);
	fc_lock();
	struct block *b = opened(n.inode);
	int error = b ? SUCCESS : map(&n, &b);
	if (!error) {
		b->opened++;
		*p = (void *)b->address;
	}
	fc_unlock();
	return fc_fail(error);
}

cudaError_t cudaIpcCloseMemHandle(void *p) {
	int failed = fc_enter_device(__func__);
	if (failed && !fc_failed(fc_current()))
		return failed;
	fc_lock();
	struct block *b = fc_block_at((uintptr_t)p, IPC_MEMORY);
	int error = b ? SUCCESS : INVALID_VALUE;
	if (b && --b->opened == 0) {
		while (b->pins && fc_failed(fc_current()))
			fc_wait();
		if (b->pins)
			fc_bug("%s of memory at %p that %d operations use", __func__, p, b->pins);
		fc_block_remove(b);
		fc_device_unmap(b);
	}
	fc_unlock();
	return fc_fail(failed ? failed : error);
}
