// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <time.h>

// holds tells whether a wait for a value holds back a stream while the word has another one.
static void holds(unsigned flags, uint32_t now, uint32_t value, uint32_t then) {
	struct words w = words();
	cudaStream_t s = stream(STREAM_NON_BLOCKING);
	store(w.host, now);
	OK(cuStreamWaitValue32_v2(s, w.device, value, flags));
	mark(s, w, 1);
	EQUAL(cudaStreamQuery(s), NOT_READY);
	EQUAL(load(&w.host[1]), 0);
	store(w.host, then);
	OK(cudaStreamSynchronize(s));
	EQUAL(load(&w.host[1]), 1);
	OK(cudaStreamDestroy(s));
}

static void passes(unsigned flags, uint32_t now, uint32_t value) {
	struct words w = words();
	store(w.host, now);
	OK(cuStreamWaitValue32_v2(0, w.device, value, flags));
	OK(cudaStreamSynchronize(0));
}

static void values(void) {
	holds(WAIT_GEQ, 4, 5, 5);
	holds(WAIT_GEQ, 0xffffffff, 1, 2); // in a circle: -1 comes before 1
	passes(WAIT_GEQ, 1, 0xffffffff);
	passes(WAIT_GEQ | WAIT_FLUSH, 7, 5);
	holds(WAIT_EQ, 6, 5, 5);
	holds(WAIT_AND, 8, 7, 4);
	holds(WAIT_NOR, 0xf0f0f0f0, 0x0f0f0f0f, 0xf0f0f0e0);
	EQUAL(counter(WAITS), 7);
}

static void addresses(void) {
	struct words w = words();
	uint32_t local = 0;
	char *on = device_memory(64);
	EQUAL(cuStreamWaitValue32_v2(0, (CUdeviceptr)&local, 0, 0), INVALID_VALUE);
	EQUAL(cuStreamWriteValue32_v2(0, 0, 0, 0), INVALID_VALUE);
	EQUAL(cuStreamWriteValue32_v2(0, w.device + 2, 0, 0), INVALID_VALUE);
	EQUAL(cuStreamWriteValue32_v2(0, w.device + 4096, 0, 0), INVALID_VALUE);
	EQUAL(cuStreamWriteValue32_v2(0, w.device, 0, 2), INVALID_VALUE);
	EQUAL(cuStreamWaitValue32_v2(0, w.device, 0, 4), INVALID_VALUE);
	OK(cuStreamWriteValue32_v2(0, (CUdeviceptr)on + 60, 77, WRITE_NO_BARRIER));
	OK(cuStreamWaitValue32_v2(0, (CUdeviceptr)on + 60, 77, WAIT_EQ));
	OK(cudaMemcpyAsync(w.host, on + 60, 4, COPY_DEVICE_TO_HOST, 0));
	OK(cudaStreamSynchronize(0));
	EQUAL(w.host[0], 77);
	OK(cudaPeekAtLastError()); // the driver does not touch it
	EQUAL(counter(WRITES), 1);
}

static void batch(void) {
	struct words w = words();
	w.host[0] = 0;
	CUstreamBatchMemOpParams ops[] = {
		{.word = {.operation = MEMOP_WAIT_32, .address = w.device, .value = 3}},
		{.word = {.operation = MEMOP_WRITE_32, .address = w.device + 4, .value = 0x1111111122222222}},
		{.fence = {.operation = MEMOP_BARRIER}},
		{.word = {.operation = MEMOP_WRITE_64, .address = w.device + 8, .value = 0x3333333344444444}},
		{.word = {.operation = MEMOP_WAIT_64, .address = w.device + 8, .value = 0x3333333344444444, .flags = WAIT_EQ}},
		{.fence = {.operation = MEMOP_FLUSH}},
	};
	enum { N = sizeof ops / sizeof *ops };
	OK(cuStreamBatchMemOp_v2(0, N, ops, 0));
	EQUAL(cudaStreamQuery(0), NOT_READY);
	EQUAL(load(&w.host[1]), 0);
	store(w.host, 3);
	OK(cudaStreamSynchronize(0));
	EQUAL(w.host[1], 0x22222222);
	EQUAL(w.host[2], 0x44444444);
	EQUAL(w.host[3], 0x33333333);
	// All or nothing.
	ops[N - 2].word.address += 4;
	ops[1].word.value = 5;
	EQUAL(cuStreamBatchMemOp_v2(0, N, ops, 0), INVALID_VALUE);
	OK(cudaStreamSynchronize(0));
	EQUAL(w.host[1], 0x22222222);
	ops[0].operation = 9;
	EQUAL(cuStreamBatchMemOp_v2(0, 1, ops, 0), INVALID_VALUE);
	EQUAL(cuStreamBatchMemOp_v2(0, 0, ops, 0), INVALID_VALUE);
	EQUAL(cuStreamBatchMemOp_v2(0, 257, ops, 0), INVALID_VALUE);
}

static void none(void) {
	void *p = host_memory(4096);
	CUstreamBatchMemOpParams op = {.word = {.operation = MEMOP_WRITE_32, .address = (CUdeviceptr)p}};
	EQUAL(cuStreamWriteValue32_v2(0, (CUdeviceptr)p, 1, 0), NOT_SUPPORTED);
	EQUAL(cuStreamWaitValue32_v2(0, (CUdeviceptr)p, 1, 0), NOT_SUPPORTED);
	EQUAL(cuStreamBatchMemOp_v2(0, 1, &op, 0), NOT_SUPPORTED);
}

static void no_batch(void) {
	struct words w = words();
	CUstreamBatchMemOpParams op = {.word = {.operation = MEMOP_WRITE_32, .address = w.device}};
	EQUAL(cuStreamBatchMemOp_v2(0, 1, &op, 0), NOT_SUPPORTED);
	mark(0, w, 0);
	OK(cudaStreamSynchronize(0));
}

static void *driver_only(void *argument) {
	struct words *w = argument;
	int device;
	OK(cudaGetDevice(&device));
	EQUAL(cuStreamWriteValue32_v2(0, w->device, 1, 0), INVALID_CONTEXT);
	OK(cudaSetDevice(0));
	OK(cuStreamWriteValue32_v2(0, w->device, 1, 0));
	return 0;
}

// The driver has no context in a thread that made no call of the runtime which needs one.
static void context(void) {
	struct words w = words();
	pthread_t t;
	EQUAL(pthread_create(&t, 0, driver_only, &w), 0);
	pthread_join(t, 0);
	OK(cudaDeviceSynchronize());
}

static double seconds(clockid_t clock) {
	struct timespec t;
	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// A wait that lasts does not keep a core busy. The sleep is what is measured.
static void idle(void) {
	struct words w = words();
	gate(0, w, 0);
	double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
	nanosleep(&(struct timespec){.tv_nsec = 300000000}, 0);
	wall = seconds(CLOCK_MONOTONIC) - wall;
	cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	CHECK(cpu < wall / 2);
	store(w.host, 1);
	OK(cudaStreamSynchronize(0));
}

const struct test memop_tests[] = {
	{"memop/values", 0, values, 0},
	{"memop/addresses", 0, addresses, 0},
	{"memop/batch", 0, batch, 0},
	{"memop/none", "FAKECUDA_NO_MEMOPS=1", none, 0},
	{"memop/no batch", "FAKECUDA_NO_BATCH=1", no_batch, 0},
	{"memop/context", 0, context, 0},
	{"memop/idle", 0, idle, 0},
	{0},
};
