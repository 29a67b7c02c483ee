// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void put(int fd, const void *p, size_t n) { EQUAL(write(fd, p, n), n); }
static void get(int fd, void *p, size_t n) { EQUAL(read(fd, p, n), n); }

// owner is the process that has the memory: it sends a handle and the address, and tells what it finds when it is asked.
static _Noreturn void owner(int in, int out) {
	unsetenv("FAKECUDA_STATS"); // is the other process's
	unsigned char *on = device_memory(1000), *host = host_memory(1000), byte;
	OK(cudaMemsetAsync(on, 11, 1000, 0));
	OK(cudaStreamSynchronize(0));
	cudaIpcMemHandle_t handle, other;
	OK(cudaIpcGetMemHandle(&handle, on));
	OK(cudaIpcGetMemHandle(&other, on + 500)); // names the same allocation
	EQUAL(memcmp(&handle, &other, sizeof handle), 0);
	EQUAL(cudaIpcGetMemHandle(&other, host), INVALID_VALUE);
	void *p;
	EQUAL(cudaIpcOpenMemHandle(&p, handle, IPC_LAZY_PEER_ACCESS), INVALID_VALUE); // its own
	put(out, &handle, sizeof handle);
	get(in, &byte, 1);
	OK(cudaMemcpy(host, on, 1000, COPY_DEVICE_TO_HOST));
	put(out, &host[999], 1);
	get(in, &byte, 1);
	OK(cudaFree(on));
	put(out, &byte, 1);
	get(in, &byte, 1);
	_exit(0);
}

static void check_open(unsigned char *on, unsigned char *host) {
	OK(cudaMemcpy(host, on, 1000, COPY_DEVICE_TO_HOST));
	EQUAL(host[0], 11);
	EQUAL(cudaMemcpy(host, on + 1, 1000, COPY_DEVICE_TO_HOST), INVALID_VALUE);
	EQUAL(cudaFree(on), INVALID_VALUE);
	struct cudaPointerAttributes a;
	OK(cudaPointerGetAttributes(&a, on));
	EQUAL(a.type, POINTER_DEVICE);
	OK(cudaMemsetAsync(on + 999, 22, 1, 0));
	OK(cudaStreamSynchronize(0));
}

static void processes(void) {
	int to[2], from[2];
	EQUAL(pipe(to) | pipe(from), 0);
	pid_t child = fork();
	if (child == 0) {
		close(to[1]);
		owner(to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	cudaIpcMemHandle_t handle;
	unsigned char byte = 0, *on, *host = host_memory(1000);
	void *again;
	get(from[0], &handle, sizeof handle);
	EQUAL(cudaIpcOpenMemHandle((void **)&on, handle, 0), INVALID_VALUE);
	OK(cudaIpcOpenMemHandle((void **)&on, handle, IPC_LAZY_PEER_ACCESS));
	OK(cudaIpcOpenMemHandle(&again, handle, IPC_LAZY_PEER_ACCESS));
	CHECK(again == on);
	check_open(on, host);
	put(to[1], &byte, 1);
	get(from[0], &byte, 1);
	EQUAL(byte, 22);
	put(to[1], &byte, 1);
	get(from[0], &byte, 1); // freed there: what is open here holds what memory holds that was given back
	OK(cudaMemcpy(host, on, 1000, COPY_DEVICE_TO_HOST));
	EQUAL(host[500], 0xDD);
	OK(cudaIpcCloseMemHandle(on));
	OK(cudaIpcCloseMemHandle(on));
	EQUAL(cudaIpcCloseMemHandle(on), INVALID_VALUE);
	EQUAL(cudaIpcOpenMemHandle(&again, handle, IPC_LAZY_PEER_ACCESS), INVALID_VALUE);
	memset(&handle, 0, sizeof handle);
	EQUAL(cudaIpcOpenMemHandle(&again, handle, IPC_LAZY_PEER_ACCESS), INVALID_VALUE);
	put(to[1], &byte, 1);
	int status;
	EQUAL(waitpid(child, &status, 0), child);
	EQUAL(status, 0);
}

const struct test ipc_tests[] = {
	{"ipc/processes", 0, processes, 0},
	{0},
};
