// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void calls(void) {
	void *p;
	OK(cudaMalloc(&p, 1));
	EQUAL(cudaMalloc(&p, 1), MEMORY_ALLOCATION);
	EQUAL(cudaGetLastError(), MEMORY_ALLOCATION);
	OK(cudaMalloc(&p, 1));
	CUdeviceptr base;
	EQUAL(cuMemGetAddressRange_v2(&base, 0, (CUdeviceptr)p), 999);
	OK(cudaGetLastError());
	cudaStream_t s = stream(0);
	EQUAL(cudaStreamDestroy(s), 719);
	OK(cudaStreamDestroy(s)); // the call that failed did nothing
	EQUAL(counter(STREAMS_LIVE), 0);
}

// A failure while an operation runs stays with the device; the other one goes on.
static void sticky(void) {
	struct words w = words();
	void *on = device_memory(4096);
	cudaStream_t s = stream(STREAM_NON_BLOCKING), waits = stream(STREAM_NON_BLOCKING);
	cudaEvent_t e = event();
	mark(waits, w, 4); // 1
	gate(waits, w, 0); // 2: never opened
	mark(waits, w, 1);
	gate(s, w, 2); // 3
	OK(cudaMemcpyAsync(w.host + 8, on, 64, COPY_DEVICE_TO_HOST, s)); // 4: fails
	mark(s, w, 3);
	OK(cudaEventRecord(e, s));
	while (!load(&w.host[4])) // else that stream may begin after the copy
		sched_yield();
	store(&w.host[2], 1);
	EQUAL(cudaStreamSynchronize(s), ILLEGAL_ADDRESS);
	EQUAL(cudaStreamSynchronize(waits), ILLEGAL_ADDRESS);
	EQUAL(cudaEventSynchronize(e), ILLEGAL_ADDRESS);
	EQUAL(cudaEventQuery(e), ILLEGAL_ADDRESS);
	EQUAL(cudaMalloc(&on, 1), ILLEGAL_ADDRESS);
	EQUAL(cudaMemcpy(w.host, w.host + 8, 4, COPY_DEFAULT), ILLEGAL_ADDRESS);
	EQUAL(cuStreamWriteValue32_v2(s, w.device, 1, 0), ILLEGAL_ADDRESS);
	EQUAL(cudaDeviceSynchronize(), ILLEGAL_ADDRESS);
	EQUAL(cudaGetLastError(), ILLEGAL_ADDRESS);
	EQUAL(cudaGetLastError(), ILLEGAL_ADDRESS);
	EQUAL(cudaEventDestroy(e), ILLEGAL_ADDRESS);
	EQUAL(cudaStreamDestroy(s), ILLEGAL_ADDRESS);
	EQUAL(cudaStreamDestroy(waits), ILLEGAL_ADDRESS);
	EQUAL(cudaFree(on), ILLEGAL_ADDRESS);
	store(&w.host[0], 1);
	EQUAL(load(&w.host[1]), 0);
	EQUAL(load(&w.host[3]), 0);
	OK(cudaSetDevice(1));
	(void)cudaGetLastError();
	OK(cudaMalloc(&on, 1));
	OK(cudaGetLastError());
	OK(cudaFree(on));
	EQUAL(cudaSetDevice(0), ILLEGAL_ADDRESS);
	int device = -1;
	OK(cudaGetDevice(&device));
	EQUAL(device, 0);
	EQUAL(cudaFreeHost(w.host), ILLEGAL_ADDRESS);
	EQUAL(counter(STREAMS_LIVE) + counter(EVENTS_LIVE) + counter(REGISTRATIONS_LIVE), 0);
	EQUAL(counter(WRITES), 1);
}

// What other streams have in the queue is dropped too.
static void sticky_queue(void) {
	struct words w = words();
	cudaStream_t s = stream(STREAM_NON_BLOCKING), other = stream(STREAM_NON_BLOCKING);
	gate(s, w, 0); // 1
	carry(s, w, 2, 3); // 2: fails
	mark(other, w, 1);
	store(&w.host[0], 1);
	EQUAL(cudaStreamSynchronize(other), 214);
	EQUAL(load(&w.host[1]), 0);
	EQUAL(cudaFreeHost(w.host), 214); // nothing uses it any more
}

static void none(void) {
	int n = -1;
	void *p;
	EQUAL(cudaGetDeviceCount(&n), NO_DEVICE);
	EQUAL(n, 0);
	EQUAL(cudaMalloc(&p, 1), NO_DEVICE);
	EQUAL(cudaSetDevice(0), NO_DEVICE);
	EQUAL(cudaGetLastError(), NO_DEVICE);
}

static void *current(void *unused) {
	(void)unused;
	int device = -1;
	OK(cudaGetDevice(&device));
	EQUAL(device, 0);
	OK(cudaGetLastError());
	return 0;
}

static void per_thread(void) {
	OK(cudaSetDevice(1));
	EQUAL(cudaSetDevice(2), INVALID_DEVICE);
	pthread_t t;
	EQUAL(pthread_create(&t, 0, current, 0), 0);
	pthread_join(t, 0);
	int device = -1;
	OK(cudaGetDevice(&device));
	EQUAL(device, 1);
	EQUAL(cudaGetLastError(), INVALID_DEVICE);
}

// In a child of fork nothing works; and nothing that the parent held is waited for.
static void forked(void) {
	struct words w = words();
	gate(0, w, 0);
	pid_t child = fork();
	if (child == 0) {
		void *p;
		bool good = cudaMalloc(&p, 1) == INITIALIZATION_ERROR && cuStreamWriteValue32_v2(0, w.device, 1, 0) == INITIALIZATION_ERROR;
		_exit(good ? 0 : 1);
	}
	int status;
	EQUAL(waitpid(child, &status, 0), child);
	EQUAL(status, 0);
	store(w.host, 1);
	OK(cudaStreamSynchronize(0));
}

static void names(void) {
	const char *text = 0;
	EQUAL(strcmp(cudaGetErrorName(700), "cudaErrorIllegalAddress"), 0);
	EQUAL(strcmp(cudaGetErrorString(2), "out of memory"), 0);
	EQUAL(strcmp(cudaGetErrorName(12345), "unrecognized error code"), 0);
	OK(cuGetErrorName(801, &text));
	EQUAL(strcmp(text, "CUDA_ERROR_NOT_SUPPORTED"), 0);
	EQUAL(cuGetErrorString(12345, &text), INVALID_VALUE);
	CHECK(!text);
	char id[16];
	OK(cudaDeviceGetPCIBusId(id, sizeof id, 1));
	EQUAL(strcmp(id, "0000:2B:00.0"), 0);
	EQUAL(cudaDeviceGetPCIBusId(id, 12, 1), INVALID_VALUE);
	int major = 0, version = 0;
	OK(cudaDeviceGetAttribute(&major, 75, 1));
	OK(cudaRuntimeGetVersion(&version));
	EQUAL(version, 13000);
	OK(cuDeviceGetName(id, sizeof id, 0));
	EQUAL(cuDeviceGetName(id, sizeof id, 2), INVALID_DEVICE);
}

static void stats_path(void) {
	char path[64];
	snprintf(path, sizeof path, "/tmp/fakecuda-%d-stats", (int)getpid());
	setenv("FAKECUDA_STATS", "/tmp/fakecuda-%p-stats", 1);
	(void)cudaGetLastError();
	struct stat about;
	EQUAL(stat(path, &about), 0);
	unlink(path);
	EQUAL(about.st_size, COUNTERS * 8);
}

static void nothing(void) { (void)cudaGetLastError(); }

const struct test fault_tests[] = {
	{"fault/calls", "FAKECUDA_FAIL=cudaMalloc:2:2,cuMemGetAddressRange_v2:1:999,cudaStreamDestroy:1:719", calls, 0},
	{"fault/sticky", "FAKECUDA_FAIL=async:4:700 FAKECUDA_DEVICES=2", sticky, 0},
	{"fault/sticky queue", "FAKECUDA_FAIL=async:2:214 FAKECUDA_QUEUES=1", sticky_queue, 0},
	{"fault/no device", "FAKECUDA_DEVICES=0", none, 0},
	{"fault/per thread", "FAKECUDA_DEVICES=2", per_thread, 0},
	{"fault/forked", 0, forked, 0},
	{"fault/names", "FAKECUDA_DEVICES=2 FAKECUDA_VERSION=13000", names, 0},
	{"fault/stats path", 0, stats_path, 0},
	{"fault/bad rule", "FAKECUDA_FAIL=cudaMalloc:x", nothing, "is not call:n:code"},
	{"fault/bad number", "FAKECUDA_SEED=1x", nothing, "is not a number"},
	{0},
};
