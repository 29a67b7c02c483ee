// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// The functions of hfreduce.h: they keep a forked child from Go's runtime, whose threads it does not have and which would never
// answer, and keep the text of an error for the thread.

#include "_cgo_export.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT = 4096 };

// The thread's text: a pointer, as the C library has little room for thread-local memory of what is loaded late, and Go's code
// demands that all of the library's lies there.
static _Thread_local char *text;
static pthread_key_t texts; // tells when the thread ends
static atomic_int forked;

// thread_ends frees it. What else ends with the thread may still call, and gets room anew.
static void thread_ends(void *room_of_it) {
	text = NULL;
	free(room_of_it);
}

static void in_child(void) { atomic_store(&forked, 1); }

__attribute__((constructor)) static void loaded(void) {
	pthread_key_create(&texts, thread_ends);
	pthread_atfork(NULL, NULL, in_child);
}

// room returns where the thread's text goes, of room_size bytes: none if there is no memory.
static char *room(void) {
	if (!text && (text = calloc(1, TEXT)))
		pthread_setspecific(texts, text);
	return text;
}

static size_t room_size(void) { return text ? TEXT : 0; }

static hfr_status fail(hfr_status status, const char *why) {
	if (room())
		snprintf(text, TEXT, "hfreduce: %s", why);
	return status;
}

static hfr_status refuse(void) {
	return fail(HFR_ERR_FORKED, "this process was forked after libhfreduce was loaded, so that its threads are missing: load it after fork, or start the process anew (exec; Python: \"spawn\")");
}

// GO calls a function of Go, whose last argument is where the text of an error goes.
#define GO(function, ...) (atomic_load(&forked) ? refuse() : (room(), function(__VA_ARGS__, text, room_size())))

static char version[128];
static pthread_once_t version_once = PTHREAD_ONCE_INIT;

static void ask_version(void) {
	if (!atomic_load(&forked))
		hfrgo_version(version, sizeof version);
}

const char *hfr_version(void) {
	pthread_once(&version_once, ask_version);
	return version;
}

const char *hfr_status_name(hfr_status status) {
	static const char *const names[] = {
		"HFR_OK", "HFR_ERR_INVALID", "HFR_ERR_SYSTEM", "HFR_ERR_TIMEOUT", "HFR_ERR_PEER_LOST", "HFR_ERR_MISMATCH", "HFR_ERR_ABORTED",
		"HFR_ERR_CORRUPT", "HFR_ERR_CLOSED", "HFR_ERR_NOT_SUPPORTED", "HFR_ERR_FORKED", "HFR_IN_PROGRESS",
	};
	return (unsigned)status < sizeof names / sizeof *names ? names[status] : "no hfr_status";
}

const char *hfr_last_error(void) { return text ? text : ""; }

hfr_status hfr_init(const hfr_options *options, hfr_comm *comm) {
	hfr_options all = {0};
	if (!comm)
		return fail(HFR_ERR_INVALID, "hfr_init: comm is NULL");
	*comm = 0;
	if (options) {
		if (options->size < offsetof(hfr_options, rendezvous) || options->size > 4096)
			return fail(HFR_ERR_INVALID, "hfr_init: options->size is not sizeof(hfr_options)");
		for (size_t i = sizeof all; i < options->size; i++) // of a newer header
			if (((const char *)options)[i])
				return fail(HFR_ERR_INVALID, "hfr_init: options has a field that this version of the library does not know");
		memcpy(&all, options, options->size < sizeof all ? options->size : sizeof all);
	}
	return GO(hfrgo_init, &all, comm);
}

hfr_status hfr_split(hfr_comm comm, int32_t color, int32_t key, hfr_comm *part) {
	if (!part)
		return fail(HFR_ERR_INVALID, "hfr_split: part is NULL");
	*part = 0;
	return GO(hfrgo_split, comm, color, key, part);
}

hfr_status hfr_shrink(hfr_comm comm, hfr_comm *smaller) {
	if (!smaller)
		return fail(HFR_ERR_INVALID, "hfr_shrink: smaller is NULL");
	*smaller = 0;
	return GO(hfrgo_shrink, comm, smaller);
}

hfr_status hfr_get_info(hfr_comm comm, hfr_info *info) {
	if (!info)
		return fail(HFR_ERR_INVALID, "hfr_get_info: info is NULL");
	return GO(hfrgo_info, comm, info);
}

hfr_status hfr_abort(hfr_comm comm, const char *why) { return GO(hfrgo_abort, comm, (char *)(why ? why : "hfr_abort")); }

hfr_status hfr_close(hfr_comm comm) { return GO(hfrgo_close, comm); }

hfr_status hfr_alloc(hfr_comm comm, size_t bytes, void **memory) {
	if (!memory)
		return fail(HFR_ERR_INVALID, "hfr_alloc: memory is NULL");
	*memory = NULL;
	return GO(hfrgo_alloc, comm, bytes, memory);
}

hfr_status hfr_free(hfr_comm comm, void *memory) { return GO(hfrgo_free, comm, (uintptr_t)memory); }

static hfr_status collective(struct hfr_call *call, hfr_request *request) {
	hfr_request unused;
	call->end = !request ? HFR_CALL_WAITS : request == HFR_FORGET ? HFR_CALL_FORGETS : HFR_CALL_ASKS;
	if (call->end != HFR_CALL_ASKS)
		request = &unused;
	*request = 0;
	return GO(hfrgo_collective, call, request);
}

hfr_status hfr_allreduce(hfr_comm comm, const void *send, void *recv, size_t count, hfr_dtype dtype, hfr_op op, void *stream, hfr_request *request) {
	struct hfr_call c = { .kind = HFR_CALL_ALLREDUCE, .comm = comm, .send = send, .recv = recv, .count = count, .dtype = dtype, .op = op, .stream = (uintptr_t)stream };
	return collective(&c, request);
}

hfr_status hfr_reduce(hfr_comm comm, const void *send, void *recv, size_t count, hfr_dtype dtype, hfr_op op, int32_t root, void *stream, hfr_request *request) {
	struct hfr_call c = { .kind = HFR_CALL_REDUCE, .comm = comm, .send = send, .recv = recv, .count = count, .dtype = dtype, .op = op, .root = root, .stream = (uintptr_t)stream };
	return collective(&c, request);
}

hfr_status hfr_broadcast(hfr_comm comm, const void *send, void *recv, size_t count, hfr_dtype dtype, int32_t root, void *stream, hfr_request *request) {
	struct hfr_call c = { .kind = HFR_CALL_BROADCAST, .comm = comm, .send = send, .recv = recv, .count = count, .dtype = dtype, .root = root, .stream = (uintptr_t)stream };
	return collective(&c, request);
}

hfr_status hfr_reduce_scatter(hfr_comm comm, const void *send, void *recv, size_t count, hfr_dtype dtype, hfr_op op, void *stream, hfr_request *request) {
	struct hfr_call c = { .kind = HFR_CALL_REDUCE_SCATTER, .comm = comm, .send = send, .recv = recv, .count = count, .dtype = dtype, .op = op, .stream = (uintptr_t)stream };
	return collective(&c, request);
}

hfr_status hfr_all_gather(hfr_comm comm, const void *send, void *recv, size_t count, hfr_dtype dtype, void *stream, hfr_request *request) {
	struct hfr_call c = { .kind = HFR_CALL_ALL_GATHER, .comm = comm, .send = send, .recv = recv, .count = count, .dtype = dtype, .stream = (uintptr_t)stream };
	return collective(&c, request);
}

hfr_status hfr_barrier(hfr_comm comm) {
	struct hfr_call c = { .kind = HFR_CALL_BARRIER, .comm = comm, .stream = HFR_CALL_HOST };
	return collective(&c, NULL);
}

hfr_status hfr_wait(hfr_request request, int64_t timeout_ms) { return GO(hfrgo_wait, request, timeout_ms); }
