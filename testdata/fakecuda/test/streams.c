// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>

static void asynchronous(void) {
	struct words w = words();
	cudaStream_t s = stream(STREAM_NON_BLOCKING);
	OK(cudaStreamQuery(s));
	gate(s, w, 0);
	mark(s, w, 1);
	EQUAL(cudaStreamQuery(s), NOT_READY);
	EQUAL(load(&w.host[1]), 0);
	store(&w.host[0], 1);
	OK(cudaStreamSynchronize(s));
	EQUAL(load(&w.host[1]), 1);
	OK(cudaStreamQuery(s));
}

static void independent(void) {
	struct words w = words();
	cudaStream_t held = stream(STREAM_NON_BLOCKING), free_ = stream(STREAM_NON_BLOCKING);
	gate(held, w, 0);
	mark(free_, w, 1);
	OK(cudaStreamSynchronize(free_));
	EQUAL(cudaStreamQuery(held), NOT_READY);
	store(&w.host[0], 1);
	OK(cudaDeviceSynchronize());
	OK(cudaStreamQuery(held));
}

// A queue that streams share executes in order of issue: the copy of the second stream comes after the mark of the first.
static void shared_queue(void) {
	struct words w = words();
	cudaStream_t first = stream(STREAM_NON_BLOCKING), second = stream(STREAM_NON_BLOCKING);
	gate(first, w, 0);
	mark(first, w, 1);
	carry(second, w, 1, 2);
	EQUAL(cudaStreamQuery(second), NOT_READY);
	store(&w.host[0], 1);
	OK(cudaStreamSynchronize(second));
	EQUAL(load(&w.host[2]), 1);
	OK(cudaStreamDestroy(first));
	mark(second, w, 3);
	OK(cudaStreamSynchronize(second));
}

// Of two queues, the first and the third stream have one.
static void two_queues(void) {
	struct words w = words();
	cudaStream_t s[3] = {stream(STREAM_NON_BLOCKING), stream(STREAM_NON_BLOCKING), stream(STREAM_NON_BLOCKING)};
	gate(s[0], w, 0);
	mark(s[0], w, 1);
	carry(s[2], w, 1, 2);
	mark(s[1], w, 3);
	OK(cudaStreamSynchronize(s[1]));
	EQUAL(cudaStreamQuery(s[2]), NOT_READY);
	store(&w.host[0], 1);
	OK(cudaStreamSynchronize(s[2]));
	EQUAL(load(&w.host[2]), 1);
}

static void legacy(void) {
	struct words w = words();
	cudaStream_t blocking = stream(0), apart = stream(STREAM_NON_BLOCKING);
	gate(blocking, w, 0);
	mark(blocking, w, 1);
	carry(0, w, 1, 2); // waits for what blocking streams were given before
	carry((cudaStream_t)STREAM_LEGACY, w, 2, 3);
	carry((cudaStream_t)STREAM_PER_THREAD, w, 3, 4); // waits for the legacy stream
	mark(apart, w, 5);
	OK(cudaStreamSynchronize(apart));
	EQUAL(cudaStreamQuery(0), NOT_READY);
	store(&w.host[0], 1);
	OK(cudaStreamSynchronize((cudaStream_t)STREAM_PER_THREAD));
	EQUAL(load(&w.host[4]), 1);
	OK(cudaStreamQuery(0));
}

// What a blocking stream is given later does not hold the legacy stream.
static void legacy_order(void) {
	struct words w = words();
	cudaStream_t blocking = stream(0);
	mark(0, w, 1);
	gate(blocking, w, 0);
	OK(cudaStreamSynchronize(0));
	EQUAL(load(&w.host[1]), 1);
	store(&w.host[0], 1);
	OK(cudaStreamSynchronize(blocking));
}

static int threads(void) {
	int n = 0;
	DIR *tasks = opendir("/proc/self/task");
	CHECK(tasks);
	while (readdir(tasks))
		n++;
	closedir(tasks);
	return n;
}

static void destroy(void) {
	struct words w = words();
	cudaStream_t s[20];
	OK(cudaStreamDestroy(stream(0)));
	int before = threads() - 1; // its thread may be there still
	for (int i = 0; i < 20; i++)
		s[i] = stream(STREAM_NON_BLOCKING);
	EQUAL(counter(STREAMS_LIVE), 20);
	for (int i = 0; i < 20; i++) {
		gate(s[i], w, 0);
		mark(s[i], w, i + 1);
		OK(cudaStreamDestroy(s[i]));
	}
	EQUAL(counter(STREAMS_LIVE), 0);
	EQUAL(load(&w.host[1]), 0);
	store(&w.host[0], 1);
	for (int i = 0; i < 20; i++)
		await(&w.host[i + 1], 1);
	while (threads() > before + 1)
		sched_yield();
}

static void handles(void) {
	struct words w = words();
	cudaStream_t s = stream(0), other;
	int status = -1;
	OK(cudaStreamIsCapturing(s, &status));
	EQUAL(status, 0);
	OK(cudaStreamDestroy(s));
	EQUAL(cudaStreamDestroy(s), INVALID_HANDLE);
	EQUAL(cudaStreamQuery(s), INVALID_HANDLE);
	EQUAL(cudaStreamSynchronize(s), INVALID_HANDLE);
	EQUAL(cuStreamWriteValue32_v2(s, w.device, 1, 0), INVALID_HANDLE);
	EQUAL(cudaStreamDestroy(0), INVALID_HANDLE);
	EQUAL(cudaStreamCreateWithPriority(&other, 2, 0), INVALID_VALUE);
	int least, greatest;
	OK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
	CHECK(greatest < least);
}

static void capturing(void) {
	int status = -1;
	OK(cudaStreamIsCapturing(0, &status));
	EQUAL(status, 1);
}

// While another thread captures, only a thread that says so may do what is unsafe.
static void captured(void) {
	cudaEvent_t e = 0;
	void *p = 0;
	int mode = CAPTURE_RELAXED;
	EQUAL(cudaMalloc(&p, 1), CAPTURE_UNSUPPORTED);
	EQUAL(cudaGetLastError(), CAPTURE_UNSUPPORTED);
	OK(cudaThreadExchangeStreamCaptureMode(&mode));
	EQUAL(mode, 0);
	OK(cudaMalloc(&p, 1));
	OK(cudaEventCreateWithFlags(&e, 0));
	OK(cudaEventQuery(e));
	OK(cudaThreadExchangeStreamCaptureMode(&mode));
	EQUAL(mode, CAPTURE_RELAXED);
	EQUAL(cudaEventQuery(e), CAPTURE_UNSUPPORTED);
	OK(cudaEventRecord(e, 0));
	EQUAL(cudaFree(p), CAPTURE_UNSUPPORTED);
	EQUAL(counter(ALLOCATIONS_LIVE), 1);
	mode = 3;
	EQUAL(cudaThreadExchangeStreamCaptureMode(&mode), INVALID_VALUE);
}

enum { ROUNDS = 200 };
static struct words shared;

// chain is one of several threads; each has a stream, and takes turns with its neighbour through words and events.
static void *chain(void *argument) {
	int me = (int)(long)argument;
	OK(cudaSetDevice(0));
	cudaStream_t mine = stream(STREAM_NON_BLOCKING), other = stream(STREAM_NON_BLOCKING);
	cudaEvent_t done = event();
	unsigned *from = host_memory(4096), *to = host_memory(4096);
	void *on = device_memory(4096);
	for (unsigned i = 1; i <= ROUNDS; i++) {
		from[1023] = i;
		OK(cudaMemcpyAsync(on, from, 4096, COPY_HOST_TO_DEVICE, mine));
		OK(cudaEventRecord(done, mine));
		OK(cudaStreamWaitEvent(other, done, 0));
		OK(cudaMemcpyAsync(to, on, 4096, COPY_DEVICE_TO_HOST, other));
		OK(cuStreamWriteValue32_v2(other, shared.device + 4u * (unsigned)me, i, 0));
		await(&shared.host[me], i);
		EQUAL(to[1023], i);
	}
	OK(cudaEventDestroy(done));
	OK(cudaStreamDestroy(mine));
	OK(cudaStreamDestroy(other));
	OK(cudaFree(on));
	OK(cudaFreeHost(from));
	OK(cudaFreeHost(to));
	return 0;
}

static void many_threads(void) {
	shared = words();
	pthread_t t[4];
	for (long i = 0; i < 4; i++)
		EQUAL(pthread_create(&t[i], 0, chain, (void *)i), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], 0);
	EQUAL(counter(ALLOCATIONS_LIVE), 0);
	EQUAL(counter(EVENTS_LIVE), 0);
}

const struct test stream_tests[] = {
	{"stream/asynchronous", 0, asynchronous, 0},
	{"stream/independent", 0, independent, 0},
	{"stream/shared queue", "FAKECUDA_QUEUES=1", shared_queue, 0},
	{"stream/two queues", "FAKECUDA_QUEUES=2", two_queues, 0},
	{"stream/legacy", 0, legacy, 0},
	{"stream/legacy order, one queue", "FAKECUDA_QUEUES=1", legacy_order, 0},
	{"stream/legacy order", 0, legacy_order, 0},
	{"stream/destroy", 0, destroy, 0},
	{"stream/handles", 0, handles, 0},
	{"stream/capturing", "FAKECUDA_CAPTURING=1", capturing, 0},
	{"stream/captured elsewhere", "FAKECUDA_CAPTURE=1", captured, 0},
	{"stream/many threads", 0, many_threads, 0},
	{"stream/many threads, delays", "FAKECUDA_DELAY_US=50 FAKECUDA_SEED=7", many_threads, 0},
	{0},
};
