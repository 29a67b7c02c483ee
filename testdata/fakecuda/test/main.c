// SPDX-License-Identifier: Apache-2.0

// Runs the tests of the fake: all of them, or those whose name contains an argument.

#define _GNU_SOURCE
#include "check.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int stats = -1;

void fail(const char *file, int line, const char *what, long got, long want) {
	fprintf(stderr, "%s:%d: %s is %ld, want %ld\n", file, line, what, got, want);
	_exit(1);
}

uint64_t counter(int c) {
	uint64_t value;
	EQUAL(pread(stats, &value, sizeof value, (off_t)(c * (int)sizeof value)), sizeof value);
	return value;
}

uint32_t load(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

void store(uint32_t *word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

void await(const uint32_t *word, uint32_t value) {
	while (load(word) != value)
		sched_yield();
}

void *device_memory(size_t bytes) {
	void *p;
	OK(cudaMalloc(&p, bytes));
	return p;
}

void *host_memory(size_t bytes) {
	void *p;
	OK(cudaHostAlloc(&p, bytes, HOST_PORTABLE | HOST_MAPPED));
	return p;
}

struct words words(void) {
	struct words w = {.host = host_memory(4096)};
	memset(w.host, 0, 4096);
	void *device;
	OK(cudaHostGetDevicePointer(&device, w.host, 0));
	w.device = (CUdeviceptr)device;
	return w;
}

cudaStream_t stream(unsigned flags) {
	cudaStream_t s;
	OK(cudaStreamCreateWithPriority(&s, flags, -1));
	return s;
}

cudaEvent_t event(void) {
	cudaEvent_t e;
	OK(cudaEventCreateWithFlags(&e, EVENT_DISABLE_TIMING));
	return e;
}

void gate(cudaStream_t s, struct words w, int i) { OK(cuStreamWaitValue32_v2(s, w.device + 4u * (unsigned)i, 1, WAIT_GEQ)); }

void mark(cudaStream_t s, struct words w, int i) { OK(cuStreamWriteValue32_v2(s, w.device + 4u * (unsigned)i, 1, WRITE_DEFAULT)); }

void carry(cudaStream_t s, struct words w, int i, int j) { OK(cudaMemcpyAsync(w.host + j, w.host + i, 4, COPY_HOST_TO_HOST, s)); }

// prepare sets the environment of a test, which the fake has not read yet.
static void prepare(const struct test *t) {
	char env[256];
	snprintf(env, sizeof env, "%s", t->env ? t->env : "");
	for (char *rest = env, *word; (word = strtok_r(rest, " ", &rest)) != NULL;) {
		char *value = strchr(word, '=');
		*value++ = 0;
		setenv(word, value, 1);
	}
	char path[64];
	stats = memfd_create("stats", 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", stats);
	setenv("FAKECUDA_STATS", path, 1);
	alarm(60);
}

// fits tells whether a process ended as its test says, and shows what it said if not.
static bool fits(const struct test *t, int status, const char *said) {
	bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	if (t->dies)
		good = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(said, t->dies);
	if (!good)
		printf("FAIL %s (status %#x)\n%s", t->name, status, said);
	return good;
}

static bool run(const struct test *t) {
	int said[2];
	EQUAL(pipe(said), 0);
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		dup2(said[1], 2);
		close(said[0]);
		close(said[1]);
		prepare(t);
		t->run();
		exit(0);
	}
	close(said[1]);
	char text[1 << 16];
	size_t n = 0;
	for (ssize_t got; n < sizeof text - 1 && (got = read(said[0], text + n, sizeof text - 1 - n)) > 0;)
		n += (size_t)got;
	text[n] = 0;
	close(said[0]);
	int status;
	EQUAL(waitpid(child, &status, 0), child);
	return fits(t, status, text);
}

int main(int argc, char **argv) {
	const struct test *all[] = {stream_tests, event_tests, memory_tests, host_tests, copy_tests, memop_tests, fault_tests, ipc_tests};
	int ran = 0, failed = 0;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		for (const struct test *t = all[i]; t->name; t++) {
			if (argc > 1 && !strstr(t->name, argv[1]))
				continue;
			ran++;
			failed += !run(t);
		}
	}
	printf("%d tests, %d failed\n", ran, failed);
	return failed || !ran;
}
