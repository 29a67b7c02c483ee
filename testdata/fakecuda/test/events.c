// SPDX-License-Identifier: Apache-2.0

#include "check.h"

#include <math.h>

static void record(void) {
	struct words w = words();
	cudaStream_t s = stream(STREAM_NON_BLOCKING);
	cudaEvent_t e = event();
	OK(cudaEventQuery(e));
	OK(cudaEventSynchronize(e));
	OK(cudaStreamWaitEvent(s, e, 0)); // never recorded: nothing to wait for
	gate(s, w, 0);
	OK(cudaEventRecord(e, s));
	EQUAL(cudaEventQuery(e), NOT_READY);
	store(&w.host[0], 1);
	OK(cudaEventSynchronize(e));
	OK(cudaEventQuery(e));
	gate(s, w, 1);
	OK(cudaEventRecord(e, s));
	EQUAL(cudaEventQuery(e), NOT_READY);
	store(&w.host[1], 1);
	OK(cudaEventSynchronize(e));
	EQUAL(counter(EVENT_QUERIES), 4);
}

// A wait captures the recording that is the last when it is called, and a later one does not change it.
static void captured(void) {
	struct words w = words();
	cudaStream_t first = stream(STREAM_NON_BLOCKING), later = stream(STREAM_NON_BLOCKING), waits = stream(STREAM_NON_BLOCKING);
	cudaEvent_t e = event();
	gate(first, w, 0);
	mark(first, w, 2);
	OK(cudaEventRecord(e, first));
	OK(cudaStreamWaitEvent(waits, e, 0));
	carry(waits, w, 2, 3);
	gate(later, w, 1);
	OK(cudaEventRecord(e, later));
	OK(cudaEventDestroy(e));
	store(&w.host[0], 1);
	OK(cudaStreamSynchronize(waits));
	EQUAL(load(&w.host[3]), 1);
	EQUAL(cudaStreamQuery(later), NOT_READY);
	store(&w.host[1], 1);
	OK(cudaDeviceSynchronize());
}

static void elapsed(void) {
	struct words w = words();
	cudaStream_t s = stream(0);
	cudaEvent_t from, to, untimed = event();
	float ms = NAN;
	OK(cudaEventCreateWithFlags(&from, 0));
	OK(cudaEventCreateWithFlags(&to, 0));
	EQUAL(cudaEventElapsedTime(&ms, from, to), INVALID_HANDLE);
	OK(cudaEventRecord(from, s));
	gate(s, w, 0);
	OK(cudaEventRecord(to, s));
	OK(cudaEventRecord(untimed, s));
	EQUAL(cudaEventElapsedTime(&ms, from, to), NOT_READY);
	store(&w.host[0], 1);
	OK(cudaStreamSynchronize(s));
	OK(cudaEventElapsedTime(&ms, from, to));
	CHECK(ms >= 0 && ms < 60000);
	EQUAL(cudaEventElapsedTime(&ms, from, untimed), INVALID_HANDLE);
}

static void handles(void) {
	cudaEvent_t e = event(), other;
	OK(cudaEventDestroy(e));
	EQUAL(cudaEventDestroy(e), INVALID_HANDLE);
	EQUAL(cudaEventRecord(e, 0), INVALID_HANDLE);
	EQUAL(cudaStreamWaitEvent(0, e, 0), INVALID_HANDLE);
	CHECK(event() != e);
	EQUAL(cudaEventCreateWithFlags(&other, EVENT_INTERPROCESS), INVALID_VALUE);
	EQUAL(counter(EVENTS_LIVE), 1);
}

// An event is recorded on its own device only, and streams of all devices can wait for it.
static void devices(void) {
	struct words w = words();
	cudaStream_t here = stream(STREAM_NON_BLOCKING);
	cudaEvent_t e = event();
	OK(cudaSetDevice(1));
	cudaStream_t there = stream(STREAM_NON_BLOCKING);
	EQUAL(cudaEventRecord(e, there), INVALID_HANDLE);
	EQUAL(cudaGetLastError(), INVALID_HANDLE);
	OK(cudaSetDevice(0));
	gate(here, w, 0);
	mark(here, w, 1);
	OK(cudaEventRecord(e, here));
	OK(cudaStreamWaitEvent(there, e, 0));
	carry(there, w, 1, 2);
	EQUAL(cudaStreamQuery(there), NOT_READY);
	store(&w.host[0], 1);
	OK(cudaStreamSynchronize(there));
	EQUAL(load(&w.host[2]), 1);
}

const struct test event_tests[] = {
	{"event/record", 0, record, 0},
	{"event/captured", 0, captured, 0},
	{"event/elapsed", 0, elapsed, 0},
	{"event/handles", 0, handles, 0},
	{"event/devices", "FAKECUDA_DEVICES=2", devices, 0},
	{0},
};
