// SPDX-License-Identifier: Apache-2.0

// What the tests of the fake share. Each runs in a process of its own, as the fake reads its environment once.

#ifndef CHECK_H
#define CHECK_H

#include "../abi.h"

#include <stdbool.h>

struct test {
	const char *name;
	const char *env;  // "A=1 B=2"
	void (*run)(void);
	const char *dies; // with SIGABRT, and says this
};

extern const struct test stream_tests[], event_tests[], memory_tests[], host_tests[], copy_tests[], memop_tests[], fault_tests[], ipc_tests[];

_Noreturn void fail(const char *file, int line, const char *what, long got, long want);

#define EQUAL(got, want)                                                                                                                                       \
	do {                                                                                                                                                       \
		long got_ = (long)(got), want_ = (long)(want);                                                                                                         \
		if (got_ != want_)                                                                                                                                     \
			fail(__FILE__, __LINE__, #got, got_, want_);                                                                                                       \
	} while (0)
#define CHECK(condition) EQUAL(!!(condition), 1)
#define OK(call) EQUAL(call, SUCCESS)

// words are 1024 words of host memory that devices reach; they start as 0.
struct words {
	uint32_t *host;
	CUdeviceptr device;
};
struct words words(void);
uint32_t load(const uint32_t *word);
void store(uint32_t *word, uint32_t value);
void await(const uint32_t *word, uint32_t value); // until the word has the value

void *device_memory(size_t bytes);
void *host_memory(size_t bytes); // pinned
cudaStream_t stream(unsigned flags);
cudaEvent_t event(void);
void gate(cudaStream_t s, struct words w, int i);    // holds the stream until word i is 1
void mark(cudaStream_t s, struct words w, int i);    // sets word i to 1
void carry(cudaStream_t s, struct words w, int i, int j); // copies word i to word j in the stream

// The counters of the fake, in its order.
enum {
	COPIES_D2H, BYTES_D2H, COPIES_H2D, BYTES_H2D, COPIES_PAGEABLE, WAITS, WRITES, KERNELS, HOST_FUNCS,
	STREAMS_LIVE, EVENTS_LIVE, ALLOCATIONS_LIVE, REGISTRATIONS_LIVE, EVENT_QUERIES, CALLS_TOTAL, COUNTERS,
};
uint64_t counter(int c);

#endif
