// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static bool filled(const unsigned char *p, size_t n, unsigned char with) {
	for (size_t i = 0; i < n; i++)
		if (p[i] != with)
			return false;
	return true;
}

// unreachable tells whether the kernel refuses to read there, as it does where the program would fault.
static bool unreachable(const void *p) {
	int fds[2];
	EQUAL(pipe(fds), 0);
	bool refused = syscall(SYS_write, fds[1], p, 1) == -1 && errno == EFAULT;
	close(fds[0]);
	close(fds[1]);
	return refused;
}

static void device(void) {
	unsigned char *p = device_memory(MIB), *host = host_memory(MIB);
	CHECK(unreachable(p));
	CHECK(unreachable(p + MIB - 1));
	OK(cudaMemcpy(host, p, MIB, COPY_DEVICE_TO_HOST));
	CHECK(filled(host, MIB, 0xA5));
	OK(cudaMemsetAsync(p + 1, 3, 10, 0));
	OK(cudaMemcpy(host, p, 12, COPY_DEFAULT));
	CHECK(host[0] == 0xA5 && filled(host + 1, 10, 3) && host[11] == 0xA5);
	EQUAL(counter(ALLOCATIONS_LIVE), 1);
	EQUAL(cudaFree(p + 1), INVALID_VALUE);
	OK(cudaFree(p));
	EQUAL(cudaFree(p), INVALID_VALUE);
	OK(cudaFree(0));
	EQUAL(cudaMemcpy(host, p, 1, COPY_DEVICE_TO_HOST), INVALID_VALUE);
	CHECK(unreachable(p));
	CHECK(device_memory(MIB) != p);
}

static void limit(void) {
	size_t free_, total;
	void *p, *more;
	OK(cudaMalloc(&p, MIB));
	OK(cudaMemGetInfo(&free_, &total));
	EQUAL(total, 2 * MIB);
	EQUAL(free_, MIB);
	EQUAL(cudaMalloc(&more, MIB + 1), MEMORY_ALLOCATION);
	EQUAL(cudaMalloc(&more, SIZE_MAX), MEMORY_ALLOCATION);
	EQUAL(cudaPeekAtLastError(), MEMORY_ALLOCATION);
	EQUAL(cudaGetLastError(), MEMORY_ALLOCATION);
	OK(cudaGetLastError());
	OK(cudaMalloc(&more, MIB));
	OK(cudaFree(p));
	OK(cudaFree(more));
	OK(cudaMemGetInfo(&free_, &total));
	EQUAL(free_, total);
}

static void pointers(void) {
	char *p = device_memory(1000), *host = host_memory(1000), local;
	struct cudaPointerAttributes a;
	OK(cudaPointerGetAttributes(&a, p + 999));
	EQUAL(a.type, POINTER_DEVICE);
	EQUAL(a.device, 0);
	CHECK(a.devicePointer == p + 999 && !a.hostPointer);
	OK(cudaPointerGetAttributes(&a, p + 1000));
	EQUAL(a.type, POINTER_UNREGISTERED);
	OK(cudaPointerGetAttributes(&a, host + 5));
	EQUAL(a.type, POINTER_HOST);
	CHECK(a.hostPointer == host + 5 && a.devicePointer == host + 5);
	OK(cudaPointerGetAttributes(&a, &local));
	EQUAL(a.type, POINTER_UNREGISTERED);

	CUdeviceptr base = 0;
	size_t bytes = 0;
	OK(cuMemGetAddressRange_v2(&base, &bytes, (CUdeviceptr)p + 500));
	CHECK(base == (CUdeviceptr)p && bytes == 1000);
	EQUAL(cuMemGetAddressRange_v2(&base, &bytes, (CUdeviceptr)&local), NOT_FOUND);
	int type = 0, ordinal = -1;
	OK(cuPointerGetAttribute(&type, 2, (CUdeviceptr)p));
	EQUAL(type, 2);
	OK(cuPointerGetAttribute(&ordinal, 9, (CUdeviceptr)p));
	EQUAL(ordinal, 0);
	base = bytes = 0;
	OK(cuPointerGetAttribute(&base, 11, (CUdeviceptr)p + 3));
	OK(cuPointerGetAttribute(&bytes, 12, (CUdeviceptr)p + 3));
	CHECK(base == (CUdeviceptr)p && bytes == 1000);
	EQUAL(cuPointerGetAttribute(&type, 2, (CUdeviceptr)&local), INVALID_VALUE);
}

static struct words w;
static cudaStream_t held;

// helper is a thread that makes one call, and what is known of it.
struct helper {
	pthread_t thread;
	void (*call)(void *);
	void *argument;
	uint32_t tid, returned;
};

static void *help(void *argument) {
	struct helper *h = argument;
	OK(cudaSetDevice(0));
	store(&h->tid, (uint32_t)gettid());
	h->call(h->argument);
	store(&h->returned, 1);
	return 0;
}

static char state(uint32_t tid) {
	char path[64], text[256] = "";
	snprintf(path, sizeof path, "/proc/self/task/%u/stat", tid);
	FILE *f = fopen(path, "r");
	if (!f)
		return 0;
	size_t n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	text[n] = 0;
	char *end = strrchr(text, ')');
	return end ? end[2] : 0;
}

// blocked starts a helper, and returns when it sleeps in its call.
static void blocked(struct helper *h) {
	uint64_t calls = counter(CALLS_TOTAL);
	EQUAL(pthread_create(&h->thread, 0, help, h), 0);
	while (counter(CALLS_TOTAL) < calls + 2 || load(&h->tid) == 0 || state(load(&h->tid)) != 'S')
		sched_yield();
	EQUAL(load(&h->returned), 0);
}

static void free_it(void *p) { OK(cudaFree(p)); }
static void malloc_it(void *p) { OK(cudaMalloc(p, 100)); }
static void issue_it(void *s) { OK(cudaMemsetAsync((void *)w.host + 64, 1, 4, s)); }

// cudaFree waits for other streams, and who wants to issue work meanwhile waits too; queries go on.
static void free_waits(void) {
	w = words();
	held = stream(STREAM_NON_BLOCKING);
	cudaStream_t other = stream(STREAM_NON_BLOCKING);
	gate(held, w, 0);
	struct helper frees = {.call = free_it, .argument = device_memory(100)}, issues = {.call = issue_it, .argument = other};
	blocked(&frees);
	blocked(&issues);
	OK(cudaStreamQuery(other));
	EQUAL(cudaStreamQuery(held), NOT_READY);
	EQUAL(load(&frees.returned), 0);
	EQUAL(load(&issues.returned), 0);
	store(&w.host[0], 1);
	pthread_join(frees.thread, 0);
	pthread_join(issues.thread, 0);
	OK(cudaDeviceSynchronize());
}

static void malloc_goes_on(void) {
	w = words();
	held = stream(STREAM_NON_BLOCKING);
	gate(held, w, 0);
	void *p = device_memory(100);
	EQUAL(cudaStreamQuery(held), NOT_READY);
	store(&w.host[0], 1);
	OK(cudaFree(p));
}

static void malloc_waits(void) {
	w = words();
	held = stream(STREAM_NON_BLOCKING);
	gate(held, w, 0);
	void *p;
	struct helper mallocs = {.call = malloc_it, .argument = &p};
	blocked(&mallocs);
	store(&w.host[0], 1);
	pthread_join(mallocs.thread, 0);
	OK(cudaFree(p));
}

// The stream of another device uses the memory: cudaFree does not wait for that.
static void free_in_use(void) {
	w = words();
	void *p = device_memory(100);
	OK(cudaSetDevice(1));
	cudaStream_t there = stream(STREAM_NON_BLOCKING);
	gate(there, w, 0);
	OK(cudaMemcpyAsync(w.host + 1, p, 4, COPY_DEVICE_TO_HOST, there));
	cudaFree(p);
}

const struct test memory_tests[] = {
	{"memory/device", 0, device, 0},
	{"memory/limit", "FAKECUDA_MEMORY_MB=2", limit, 0},
	{"memory/pointers", 0, pointers, 0},
	{"memory/free waits", 0, free_waits, 0},
	{"memory/malloc goes on", 0, malloc_goes_on, 0},
	{"memory/malloc waits", "FAKECUDA_MALLOC_SYNCS=1", malloc_waits, 0},
	{"memory/free in use", "FAKECUDA_DEVICES=2", free_in_use, "that 1 operations of other devices use"},
	{0},
};
