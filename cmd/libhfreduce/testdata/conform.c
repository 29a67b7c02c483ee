// SPDX-License-Identifier: Apache-2.0

// A rank of a job that uses hfreduce.h as C programs do. usage: conform MODE; it prints "ok" last.

#define _GNU_SOURCE
#include "hfreduce.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 20000 };

static hfr_info me;

#define CHECK(what) \
	do { \
		if (!(what)) { \
			fprintf(stderr, "line %d: %s: %s\n", __LINE__, #what, hfr_last_error()); \
			exit(1); \
		} \
	} while (0)
#define OK(call) CHECK((call) == HFR_OK)
#define FAILS(call, status, words) CHECK((call) == (status) && strstr(hfr_last_error(), words))

static float value(int rank, size_t i) { return (float)(rank + 1) * (float)(i % 100); }

static void fill(float *x, int rank, size_t n) {
	for (size_t i = 0; i < n; i++)
		x[i] = value(rank, i);
}

static int ranks_sum(void) { return me.world_size * (me.world_size + 1) / 2; }

static int is_sum(const float *x, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (x[i] != (float)ranks_sum() * (float)(i % 100))
			return 0;
	return 1;
}

static int is_of(const float *x, int rank, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (x[i] != value(rank, i))
			return 0;
	return 1;
}

static void collectives(hfr_comm comm) {
	int world = me.world_size, root = world - 1;
	float *a = calloc(COUNT * (size_t)world, sizeof *a), *b = calloc(COUNT * (size_t)world, sizeof *b);
	fill(a, me.rank, COUNT);
	OK(hfr_allreduce(comm, a, b, COUNT, HFR_FLOAT32, HFR_SUM, HFR_HOST, NULL));
	CHECK(is_sum(b, COUNT) && is_of(a, me.rank, COUNT));
	OK(hfr_allreduce(comm, a, a, COUNT, HFR_FLOAT32, HFR_AVG, HFR_HOST, NULL));
	CHECK(a[7] == 7.0f * (float)ranks_sum() / (float)world);

	fill(a, me.rank, COUNT);
	OK(hfr_reduce(comm, a, me.rank == root ? b : NULL, COUNT, HFR_FLOAT32, HFR_MAX, root, HFR_HOST, NULL));
	CHECK(me.rank != root || is_of(b, world - 1, COUNT));
	OK(hfr_broadcast(comm, me.rank == root ? a : NULL, b, COUNT, HFR_FLOAT32, root, HFR_HOST, NULL));
	CHECK(is_of(b, root, COUNT));
	OK(hfr_all_gather(comm, a, b, COUNT, HFR_FLOAT32, HFR_HOST, NULL));
	for (int r = 0; r < world; r++)
		CHECK(is_of(b + (size_t)r * COUNT, r, COUNT));
	for (int r = 0; r < world; r++)
		fill(a + (size_t)r * COUNT, me.rank, COUNT);
	OK(hfr_reduce_scatter(comm, a, b, COUNT, HFR_FLOAT32, HFR_SUM, HFR_HOST, NULL));
	CHECK(is_sum(b, COUNT));
	OK(hfr_barrier(comm));

	hfr_request first = 0, second = 0;
	fill(a, me.rank, COUNT);
	OK(hfr_allreduce(comm, a, b, COUNT, HFR_FLOAT32, HFR_SUM, HFR_HOST, &first));
	OK(hfr_allreduce(comm, a, a, COUNT, HFR_FLOAT32, HFR_MIN, HFR_HOST, HFR_FORGET));
	OK(hfr_broadcast(comm, b, b, 0, HFR_INT8, 0, HFR_HOST, &second));
	CHECK(first && second && first != second);
	for (hfr_status s; (s = hfr_wait(first, 0)) != HFR_OK;)
		CHECK(s == HFR_IN_PROGRESS);
	CHECK(is_sum(b, COUNT));
	FAILS(hfr_wait(first, 0), HFR_ERR_INVALID, "has come to its end");
	OK(hfr_wait(second, -1));
	CHECK(is_of(a, 0, COUNT));
	free(a);
	free(b);
}

static void memory(hfr_comm comm) {
	void *p = NULL, *q = NULL;
	OK(hfr_alloc(comm, COUNT * sizeof(float), &p));
	CHECK(((float *)p)[COUNT - 1] == 0);
	fill(p, me.rank, COUNT);
	OK(hfr_allreduce(comm, p, p, COUNT, HFR_FLOAT32, HFR_SUM, HFR_HOST, NULL));
	CHECK(is_sum(p, COUNT));
	OK(hfr_free(comm, p));
	FAILS(hfr_free(comm, p), HFR_ERR_INVALID, "is not from hfr_alloc");
	OK(hfr_free(comm, NULL));
	OK(hfr_alloc(comm, 64, &q)); // goes with the communicator
}

static void parts(hfr_comm comm) {
	hfr_comm part = 1;
	hfr_info of;
	int32_t x = 1;
	OK(hfr_split(comm, me.rank == 0 ? -1 : 7, -me.rank, &part));
	if (me.rank == 0) {
		CHECK(part == 0);
		return;
	}
	OK(hfr_get_info(part, &of));
	CHECK(of.world_size == me.world_size - 1 && of.rank == me.world_size - 1 - me.rank);
	OK(hfr_allreduce(part, &x, &x, 1, HFR_INT32, HFR_SUM, HFR_HOST, NULL));
	CHECK(x == of.world_size);
	OK(hfr_close(part));
	FAILS(hfr_barrier(part), HFR_ERR_INVALID, "hfr_comm");
}

static void bad_arguments(hfr_comm comm) {
	float x = 0, y = 0;
	hfr_request r = 5;
	FAILS(hfr_init(NULL, NULL), HFR_ERR_INVALID, "comm is NULL");
	hfr_options none = { 0 };
	hfr_comm other = 1;
	FAILS(hfr_init(&none, &other), HFR_ERR_INVALID, "sizeof(hfr_options)");
	CHECK(other == 0);
	struct { hfr_options known; int64_t unknown; } newer = { { .size = sizeof newer, .rank = 4, .world_size = 2 }, 1 };
	FAILS(hfr_init(&newer.known, &other), HFR_ERR_INVALID, "does not know");
	newer.unknown = 0;
	FAILS(hfr_init(&newer.known, &other), HFR_ERR_INVALID, "rank 4");
	hfr_options faulty = { .size = sizeof faulty, .rank = 4, .world_size = 2, .rendezvous = "127.0.0.1:1" };
	FAILS(hfr_init(&faulty, &other), HFR_ERR_INVALID, "rank 4");
	FAILS(hfr_allreduce(0, &x, &y, 1, HFR_FLOAT32, HFR_SUM, HFR_HOST, NULL), HFR_ERR_INVALID, "0 is no hfr_comm");
	FAILS(hfr_allreduce(comm, NULL, &y, 1, HFR_FLOAT32, HFR_SUM, HFR_HOST, NULL), HFR_ERR_INVALID, "send is NULL");
	FAILS(hfr_allreduce(comm, &x, NULL, 1, HFR_FLOAT32, HFR_SUM, HFR_HOST, &r), HFR_ERR_INVALID, "recv is NULL");
	CHECK(r == 0);
	FAILS(hfr_allreduce(comm, &x, &y, 1, (hfr_dtype)12, HFR_SUM, HFR_HOST, NULL), HFR_ERR_INVALID, "12 is no hfr_dtype");
	FAILS(hfr_allreduce(comm, &x, &y, 1, HFR_FLOAT32, (hfr_op)5, HFR_HOST, NULL), HFR_ERR_INVALID, "5 is no hfr_op");
	FAILS(hfr_allreduce(comm, &x, &y, SIZE_MAX / 4, HFR_FLOAT32, HFR_SUM, HFR_HOST, NULL), HFR_ERR_INVALID, "elements");
	FAILS(hfr_broadcast(comm, &x, &y, 1, HFR_FLOAT32, 99, HFR_HOST, NULL), HFR_ERR_INVALID, "99");
	FAILS(hfr_free(comm, (void *)1), HFR_ERR_INVALID, "0x1 is not from hfr_alloc");
	OK(hfr_allreduce(comm, (void *)4, (void *)4, 0, HFR_FLOAT32, HFR_SUM, HFR_HOST, NULL)); // as empty slices of Rust are
	FAILS(hfr_wait(12345678, 0), HFR_ERR_INVALID, "is no hfr_request");
	CHECK(!strcmp(hfr_status_name(HFR_ERR_PEER_LOST), "HFR_ERR_PEER_LOST") && !strcmp(hfr_status_name((hfr_status)99), "no hfr_status"));
	CHECK(strlen(hfr_version()) > 0);
}

static void at_end(void *text) {
	CHECK(!strcmp(hfr_last_error(), ""));
	FAILS(hfr_barrier(7654321), HFR_ERR_INVALID, "7654321");
	CHECK(!strcmp(text, "kept"));
	free(text);
}

static pthread_key_t end_of_thread;

static void *fails_in_thread(void *text) {
	FAILS(hfr_barrier(0), HFR_ERR_INVALID, "0 is no hfr_comm");
	pthread_setspecific(end_of_thread, text);
	return NULL;
}

// Destructors of a thread's own values may call, too, after the library's has run.
static void at_the_end_of_a_thread(void) {
	pthread_t thread;
	FAILS(hfr_barrier(123), HFR_ERR_INVALID, "123");
	CHECK(pthread_key_create(&end_of_thread, at_end) == 0);
	CHECK(pthread_create(&thread, NULL, fails_in_thread, strcpy(calloc(1, 4096), "kept")) == 0 && pthread_join(thread, NULL) == 0);
	CHECK(strstr(hfr_last_error(), "123"));
}

static void in_a_forked_child(hfr_comm comm) {
	pid_t child = fork();
	if (child == 0) {
		hfr_comm other = 1;
		int refused = hfr_barrier(comm) == HFR_ERR_FORKED && strstr(hfr_last_error(), "forked") && hfr_init(NULL, &other) == HFR_ERR_FORKED;
		_exit(refused ? 0 : 1);
	}
	int status = 1;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	OK(hfr_barrier(comm));
}

static void after_abort(hfr_comm comm) {
	float x = 1;
	if (me.rank == 1)
		OK(hfr_abort(comm, "the loss is not a number"));
	FAILS(hfr_allreduce(comm, &x, &x, 1, HFR_FLOAT32, HFR_SUM, HFR_HOST, NULL), HFR_ERR_ABORTED, "the loss is not a number");
	FAILS(hfr_barrier(comm), HFR_ERR_ABORTED, "rank 1");
}

static hfr_comm without_a_rank(hfr_comm comm) {
	float x = 1;
	hfr_comm smaller;
	hfr_status s = hfr_barrier(comm);
	CHECK(s == HFR_OK || (s == HFR_ERR_PEER_LOST && me.rank != 1)); // rank 1 may be through with it, and gone, before others are
	if (me.rank == 1)
		_exit(0);
	FAILS(hfr_allreduce(comm, &x, &x, 1, HFR_FLOAT32, HFR_SUM, HFR_HOST, NULL), HFR_ERR_PEER_LOST, "rank 1");
	OK(hfr_shrink(comm, &smaller));
	x = 1;
	OK(hfr_allreduce(smaller, &x, &x, 1, HFR_FLOAT32, HFR_SUM, HFR_HOST, NULL));
	CHECK(x == (float)(me.world_size - 1));
	hfr_close(comm); // says that it is broken
	return smaller;
}

// cuda returns a function of the CUDA library that hfreduce has found.
static void *cuda(const char *name) {
	static void *library;
	if (!library)
		library = dlopen(getenv("HFREDUCE_CUDART"), RTLD_NOW);
	void *f = library ? dlsym(library, name) : NULL;
	if (!f) {
		fprintf(stderr, "no %s\n", name);
		exit(1);
	}
	return f;
}

static void on_gpu(hfr_comm comm) {
	int (*allocate)(void **, size_t), (*copy)(void *, const void *, size_t, int), (*synchronize)(void *);
	*(void **)&allocate = cuda("cudaMalloc");
	*(void **)&copy = cuda("cudaMemcpy");
	*(void **)&synchronize = cuda("cudaStreamSynchronize");
	float *x = malloc(COUNT * sizeof *x);
	void *on = NULL;
	hfr_request r;
	fill(x, me.rank, COUNT);
	CHECK(allocate(&on, COUNT * sizeof *x) == 0 && copy(on, x, COUNT * sizeof *x, 1) == 0);
	OK(hfr_allreduce(comm, on, on, COUNT, HFR_FLOAT32, HFR_SUM, NULL, &r)); // on the legacy default stream
	CHECK(synchronize(NULL) == 0);
	CHECK(copy(x, on, COUNT * sizeof *x, 2) == 0 && is_sum(x, COUNT));
	OK(hfr_wait(r, -1));
	fill(x, me.rank, COUNT);
	CHECK(copy(on, x, COUNT * sizeof *x, 1) == 0);
	OK(hfr_allreduce(comm, on, on, COUNT, HFR_FLOAT32, HFR_SUM, (void *)1, HFR_FORGET)); // which 1 is, too
	CHECK(synchronize(NULL) == 0 && copy(x, on, COUNT * sizeof *x, 2) == 0 && is_sum(x, COUNT));
	FAILS(hfr_allreduce(comm, x, on, COUNT, HFR_FLOAT32, HFR_SUM, NULL, NULL), HFR_ERR_INVALID, "not memory of a GPU");
	free(x);
}

int main(int argc, char **argv) {
	const char *mode = argc > 1 ? argv[1] : "";
	hfr_options options = { .size = sizeof options, .init_timeout_ms = 60000, .cuda = strcmp(mode, "gpu") ? "off" : "on" };
	hfr_comm comm = 0;
	OK(hfr_init(&options, &comm));
	OK(hfr_get_info(comm, &me));
	if (!strcmp(mode, "collectives")) {
		collectives(comm);
		memory(comm);
		parts(comm);
		bad_arguments(comm);
		at_the_end_of_a_thread();
		in_a_forked_child(comm);
	} else if (!strcmp(mode, "abort")) {
		after_abort(comm);
		hfr_close(comm);
		comm = 0;
	} else if (!strcmp(mode, "lost")) {
		comm = without_a_rank(comm);
	} else if (!strcmp(mode, "gpu")) {
		on_gpu(comm);
	} else {
		fprintf(stderr, "usage: conform collectives|abort|lost|gpu\n");
		return 2;
	}
	if (comm)
		OK(hfr_close(comm));
	FAILS(hfr_barrier(comm), HFR_ERR_INVALID, "hfr_comm");
	puts("ok");
	return 0;
}
