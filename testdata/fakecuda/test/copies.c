// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void kinds(void) {
	char *on = device_memory(100), *host = host_memory(100);
	OK(cudaMemcpyAsync(on, host, 100, COPY_HOST_TO_DEVICE, 0));
	OK(cudaMemcpyAsync(host, on, 100, COPY_DEVICE_TO_HOST, 0));
	OK(cudaMemcpyAsync(on, on, 100, COPY_DEVICE_TO_DEVICE, 0));
	OK(cudaMemcpyAsync(host, on, 100, COPY_DEFAULT, 0));
	OK(cudaMemcpyAsync(host, on, 0, COPY_DEVICE_TO_HOST, 0));
	EQUAL(cudaMemcpyAsync(on, host, 100, COPY_DEVICE_TO_HOST, 0), INVALID_VALUE);
	EQUAL(cudaMemcpyAsync(host, on, 100, COPY_HOST_TO_HOST, 0), INVALID_VALUE);
	EQUAL(cudaMemcpyAsync(host, on, 100, COPY_DEVICE_TO_DEVICE, 0), INVALID_VALUE);
	EQUAL(cudaMemcpyAsync(host, on, 100, 5, 0), INVALID_VALUE);
	EQUAL(cudaMemcpyAsync(host, on + 50, 51, COPY_DEVICE_TO_HOST, 0), INVALID_VALUE);
	EQUAL(cudaMemcpyAsync(host + 50, on, 51, COPY_DEVICE_TO_HOST, 0), INVALID_VALUE);
	EQUAL(cudaMemsetAsync(on + 50, 0, 51, 0), INVALID_VALUE);
	EQUAL(cudaMemcpyAsync(on, 0, 1, COPY_HOST_TO_DEVICE, 0), INVALID_VALUE);
	OK(cudaDeviceSynchronize());
	EQUAL(counter(COPIES_D2H), 2);
	EQUAL(counter(BYTES_D2H), 200);
	EQUAL(counter(COPIES_H2D), 1);
	EQUAL(counter(BYTES_H2D), 100);
	EQUAL(counter(COPIES_PAGEABLE), 0);
}

static void two_dimensions(void) {
	unsigned char *on = device_memory(1000), *host = host_memory(1000);
	for (int i = 0; i < 1000; i++)
		host[i] = (unsigned char)i;
	OK(cudaMemcpy2DAsync(on, 100, host, 10, 7, 10, COPY_HOST_TO_DEVICE, 0));
	OK(cudaStreamSynchronize(0));
	memset(host, 0, 1000);
	OK(cudaMemcpy2DAsync(host, 7, on, 100, 7, 10, COPY_DEVICE_TO_HOST, 0));
	OK(cudaStreamSynchronize(0));
	for (int y = 0; y < 10; y++)
		for (int x = 0; x < 7; x++)
			EQUAL(host[7 * y + x], 10 * y + x);
	EQUAL(counter(BYTES_D2H), 70);
	EQUAL(cudaMemcpy2DAsync(host, 6, on, 100, 7, 10, COPY_DEVICE_TO_HOST, 0), INVALID_PITCH);
	EQUAL(cudaMemcpy2DAsync(host, 7, on, 100, 7, 11, COPY_DEVICE_TO_HOST, 0), INVALID_VALUE);
	OK(cudaMemcpy2DAsync(host, 7, on, 100, 7, 0, COPY_DEVICE_TO_HOST, 0));
}

// The driver is told what each side is, and takes offsets.
static void of_the_driver(void) {
	unsigned char *on = device_memory(1000), *host = host_memory(1000);
	for (int i = 0; i < 1000; i++)
		host[i] = (unsigned char)i;
	CUDA_MEMCPY2D to = {.srcXInBytes = 1, .srcY = 2, .srcMemoryType = POINTER_HOST, .srcHost = host, .srcPitch = 10,
	                    .dstXInBytes = 3, .dstMemoryType = POINTER_DEVICE, .dstDevice = (CUdeviceptr)on, .dstPitch = 100, .WidthInBytes = 7, .Height = 9};
	OK(cuMemcpy2DAsync_v2(&to, 0));
	OK(cudaStreamSynchronize(0));
	memset(host, 0, 1000);
	CUDA_MEMCPY2D from = {.srcXInBytes = 3, .srcMemoryType = POINTER_DEVICE, .srcDevice = (CUdeviceptr)on, .srcPitch = 100,
	                      .dstMemoryType = POINTER_HOST, .dstHost = host, .dstPitch = 7, .WidthInBytes = 7, .Height = 9};
	OK(cuMemcpy2DAsync_v2(&from, 0));
	OK(cudaStreamSynchronize(0));
	for (int y = 0; y < 9; y++)
		for (int x = 0; x < 7; x++)
			EQUAL(host[7 * y + x], 10 * (y + 2) + x + 1);
	EQUAL(counter(COPIES_PAGEABLE), 0);
	from.dstPitch = 6;
	EQUAL(cuMemcpy2DAsync_v2(&from, 0), INVALID_VALUE);
	from.dstPitch = 7, from.srcMemoryType = POINTER_HOST, from.srcHost = on; // which it is not
	EQUAL(cuMemcpy2DAsync_v2(&from, 0), INVALID_VALUE);
	from.srcMemoryType = POINTER_DEVICE, from.Height = 11;
	EQUAL(cuMemcpy2DAsync_v2(&from, 0), INVALID_VALUE);
}

// A copy of memory that is not registered is done when the call returns, after what the stream was given before.
static void pageable(void) {
	char *on = device_memory(100), *host = malloc(100);
	OK(cudaMemsetAsync(on, 9, 100, 0));
	OK(cudaMemcpyAsync(host, on, 100, COPY_DEVICE_TO_HOST, 0));
	EQUAL(host[99], 9);
	OK(cudaStreamQuery(0));
	EQUAL(counter(COPIES_PAGEABLE), 1);
	EQUAL(counter(COPIES_D2H), 1);
	free(host);
}

static void strict(void) {
	char *on = device_memory(100), host[100];
	EQUAL(cudaMemcpyAsync(host, on, 100, COPY_DEVICE_TO_HOST, 0), INVALID_VALUE);
	EQUAL(cudaMemcpyAsync(on, host, 100, COPY_DEFAULT, 0), INVALID_VALUE);
	EQUAL(counter(COPIES_PAGEABLE), 0);
}

// A range must lie in one registration, or touch none.
static void partly_registered(void) {
	char *on = device_memory(8192), *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	OK(cudaHostRegister(p, 4096, HOST_MAPPED));
	EQUAL(cudaMemcpyAsync(on, p, 8192, COPY_HOST_TO_DEVICE, 0), INVALID_VALUE);
	OK(cudaHostRegister(p + 4096, 4096, HOST_MAPPED));
	EQUAL(cudaMemcpyAsync(on, p, 8192, COPY_HOST_TO_DEVICE, 0), INVALID_VALUE);
	OK(cudaMemcpyAsync(on, p, 4096, COPY_HOST_TO_DEVICE, 0));
	OK(cudaMemcpyAsync(on, p + 4096, 4096, COPY_HOST_TO_DEVICE, 0));
	OK(cudaDeviceSynchronize());
}

// timed is a copy in a stream of its own, between two events.
struct timed {
	cudaStream_t stream;
	cudaEvent_t from, to;
};

static struct timed timed(struct words w, void *dst, const void *src, size_t bytes) {
	struct timed t = {.stream = stream(STREAM_NON_BLOCKING)};
	OK(cudaEventCreateWithFlags(&t.from, 0));
	OK(cudaEventCreateWithFlags(&t.to, 0));
	gate(t.stream, w, 0);
	OK(cudaEventRecord(t.from, t.stream));
	OK(cudaMemcpyAsync(dst, src, bytes, COPY_DEFAULT, t.stream));
	OK(cudaEventRecord(t.to, t.stream));
	return t;
}

static float between(cudaEvent_t from, cudaEvent_t to) {
	float ms;
	OK(cudaEventElapsedTime(&ms, from, to));
	return ms;
}

enum { BYTES = 10000000 }; // 100 ms at 100 MB/s

static void bandwidth(void) {
	struct words w = words();
	char *on = device_memory(3 * BYTES), *host = host_memory(3 * BYTES);
	struct timed a = timed(w, host, on, BYTES), b = timed(w, host + BYTES, on + BYTES, BYTES), c = timed(w, on + 2 * BYTES, host + 2 * BYTES, BYTES);
	store(&w.host[0], 1);
	OK(cudaDeviceSynchronize());
	CHECK(between(a.from, a.to) > 99 && between(b.from, b.to) > 99 && between(c.from, c.to) > 99);
	// Copies in one direction take turns.
	float ends = between(a.to, b.to);
	CHECK(ends > 99 || ends < -99);
	// The other direction does not wait: it is at work together with one of them.
	CHECK((between(a.from, c.to) > 0 && between(c.from, a.to) > 0) || (between(b.from, c.to) > 0 && between(c.from, b.to) > 0));
}

enum { TURNS = 3, TURN_BYTES = 3000000 }; // 30 ms each at 100 MB/s

// apart has two streams copy three times each in one direction, and tells whether one was through before the other began.
static bool apart(void) {
	struct words w = words();
	char *on = device_memory(TURN_BYTES), *host = host_memory(TURN_BYTES);
	cudaEvent_t first[2], last[2];
	for (int s = 0; s < 2; s++) {
		cudaStream_t on_stream = stream(STREAM_NON_BLOCKING);
		gate(on_stream, w, 0);
		for (int i = 0; i < TURNS; i++) {
			OK(cudaMemcpyAsync(host, on, TURN_BYTES, COPY_DEVICE_TO_HOST, on_stream));
			cudaEvent_t *at = i == 0 ? &first[s] : &last[s];
			OK(cudaEventCreateWithFlags(at, 0));
			OK(cudaEventRecord(*at, on_stream));
		}
	}
	store(&w.host[0], 1);
	OK(cudaDeviceSynchronize());
	return between(last[0], first[1]) > 0 || between(last[1], first[0]) > 0;
}

static void in_turn(void) { CHECK(!apart()); }
static void greedy(void) { CHECK(apart()); }

// A stream that waits, or that has nothing to copy, does not keep an engine, nor does one that needs the other.
static void greedy_yields(void) {
	struct words w = words();
	for (int i = 0; i < 4; i++) {
		char *on = device_memory(100), *host = host_memory(100);
		cudaStream_t s = stream(STREAM_NON_BLOCKING);
		for (int there = 0; there < 6; there++)
			OK(cudaMemcpyAsync(there % 2 ? on : host, there % 2 ? host : on, 100, COPY_DEFAULT, s));
		mark(s, w, i);
		gate(s, w, 4);
		OK(cudaMemcpyAsync(host, on, 100, COPY_DEFAULT, s));
	}
	for (int i = 0; i < 4; i++)
		await(&w.host[i], 1);
	store(&w.host[4], 1);
	OK(cudaDeviceSynchronize());
}

static void peers(void) {
	int can = -1;
	OK(cudaDeviceCanAccessPeer(&can, 0, 1));
	EQUAL(can, 1);
	OK(cudaDeviceCanAccessPeer(&can, 1, 1));
	EQUAL(can, 0);
	uint32_t *here = device_memory(100), *host = host_memory(100);
	OK(cudaSetDevice(1));
	uint32_t *there = device_memory(100);
	OK(cudaSetDevice(0));
	OK(cudaMemsetAsync(here, 4, 100, 0));
	OK(cudaMemcpyAsync(there, here, 100, COPY_DEVICE_TO_DEVICE, 0));
	OK(cudaMemcpyAsync(host, there, 100, COPY_DEVICE_TO_HOST, 0));
	OK(cudaStreamSynchronize(0));
	EQUAL(host[24], 0x04040404);
	EQUAL(cuStreamWriteValue32_v2(0, (CUdeviceptr)there, 1, 0), INVALID_VALUE);
	OK(cudaDeviceEnablePeerAccess(1, 0));
	EQUAL(cudaDeviceEnablePeerAccess(1, 0), PEER_ALREADY_ENABLED);
	EQUAL(cudaDeviceEnablePeerAccess(0, 0), INVALID_DEVICE);
	OK(cuStreamWriteValue32_v2(0, (CUdeviceptr)there, 1, 0));
	OK(cudaMemcpy(host, there, 4, COPY_DEVICE_TO_HOST));
	EQUAL(host[0], 1);
}

const struct test copy_tests[] = {
	{"copy/kinds", 0, kinds, 0},
	{"copy/two dimensions", 0, two_dimensions, 0},
	{"copy/of the driver", 0, of_the_driver, 0},
	{"copy/pageable", 0, pageable, 0},
	{"copy/strict", "FAKECUDA_STRICT=1", strict, 0},
	{"copy/partly registered", 0, partly_registered, 0},
	{"copy/bandwidth", "FAKECUDA_BANDWIDTH=100", bandwidth, 0},
	{"copy/in turn", "FAKECUDA_BANDWIDTH=100", in_turn, 0},
	{"copy/greedy", "FAKECUDA_BANDWIDTH=100 FAKECUDA_GREEDY=1", greedy, 0},
	{"copy/greedy yields", "FAKECUDA_GREEDY=1", greedy_yields, 0},
	{"copy/peers", "FAKECUDA_DEVICES=2", peers, 0},
	{0},
};
