// SPDX-License-Identifier: Apache-2.0

// Counts what a process gives to its GPUs: kernels, copies by direction, memsets. The CUDA driver loads this library into
// every process that has CUDA_INJECTION64_PATH in its environment, at the process's first call; so nothing that is traced
// has to be built for it, and children are traced too.
//
// HFREDUCE_TRACE_OUT=PREFIX: each process keeps one line in the file PREFIX.PID:
//
//	pid 7 kernels 0 launches 0 htod 40 1048576 dtoh 40 1048576 dtod 0 0 other 0 0 memset 0 0 dropped 0 error 0 names -
//
// A copy and a memset have their number and their bytes. "kernels" is what ran on the GPU, from activity records;
// "launches" is how many calls asked for that, which CUPTI tells at once, so that the two can be held against each other.
// The file is written over and over (by rename, so that it is always whole): a Go program ends without running what
// atexit was given, and a killed process does too.

#define _GNU_SOURCE
#include <cupti.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// Small, so that a buffer is soon full and comes back while the program is busy.
enum { BUFFER_BYTES = 64 << 10, ALIGNMENT = 8, PERIOD_MS = 100, NAMES = 5, NAME_BYTES = 160 };

enum direction { TO_DEVICE, TO_HOST, ON_DEVICE, OTHER, DIRECTIONS };
static const char *const direction_names[DIRECTIONS] = {"htod", "dtoh", "dtod", "other"};

struct amount {
	uint64_t count, bytes;
};

struct counts {
	uint64_t kernels, dropped;
	struct amount copies[DIRECTIONS], memsets;
	int names;
	char name[NAMES][NAME_BYTES];
};

static struct counts counts;
static atomic_ullong launches;
static atomic_int first_error; // the first CUptiResult that was not success: then the counts prove nothing
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
static char path[4096];
static pthread_t flusher;
static bool flusher_runs;
static atomic_bool ending;

// The first fields of the records, which no version of CUPTI has moved. The records' own types change with it.
struct copy_head {
	uint32_t kind;
	uint8_t copy_kind, source, target, flags;
	uint64_t bytes;
};
struct memset_head {
	uint32_t kind, value;
	uint64_t bytes;
};

static bool checked(const char *what, CUptiResult r) {
	if (r == CUPTI_SUCCESS)
		return true;
	int none = 0;
	atomic_compare_exchange_strong(&first_error, &none, (int)r);
	const char *text = "?";
	cuptiGetResultString(r, &text);
	fprintf(stderr, "trace: %s: %s (%d)\n", what, text, (int)r);
	return false;
}

// write_counts brings the process's file up to date.
static void write_counts(void) {
	static uint64_t version; // of the file beside the real one
	pthread_mutex_lock(&writing);
	pthread_mutex_lock(&counting);
	struct counts now = counts;
	pthread_mutex_unlock(&counting);
	char made[sizeof path + 32];
	snprintf(made, sizeof made, "%s.new%llu", path, (unsigned long long)version++ % 2);
	FILE *f = fopen(made, "we");
	if (f) {
		fprintf(f, "pid %d kernels %llu launches %llu", (int)getpid(), (unsigned long long)now.kernels, atomic_load(&launches));
		for (int d = 0; d < DIRECTIONS; d++)
			fprintf(f, " %s %llu %llu", direction_names[d], (unsigned long long)now.copies[d].count, (unsigned long long)now.copies[d].bytes);
		fprintf(f, " memset %llu %llu dropped %llu error %d names ", (unsigned long long)now.memsets.count, (unsigned long long)now.memsets.bytes,
			(unsigned long long)now.dropped, atomic_load(&first_error));
		for (int i = 0; i < now.names; i++)
			fprintf(f, "%s%s", i ? "," : "", now.name[i]);
		fputs(now.names ? "\n" : "-\n", f);
		bool whole = ferror(f) == 0;
		if (fclose(f) == 0 && whole)
			rename(made, path);
	}
	pthread_mutex_unlock(&writing);
}

// add_name keeps a name if there is room and it is new.
static void add_name(struct counts *c, const char *name) {
	for (int i = 0; i < c->names; i++)
		if (strcmp(c->name[i], name) == 0)
			return;
	if (c->names < NAMES)
		snprintf(c->name[c->names++], NAME_BYTES, "%s", name);
}

#ifdef KERNEL_RECORD
// keep_name remembers a kernel's name. KERNEL_RECORD is the newest type that the header has for kernels, which is what CUPTI
// writes. Should it be another, the name is no address: hence the careful read.
static void keep_name(struct counts *c, const CUpti_Activity *record) {
	if (c->names == NAMES)
		return;
	char name[NAME_BYTES] = {0};
	struct iovec to = {name, sizeof name - 1};
	struct iovec from = {(void *)((const KERNEL_RECORD *)record)->name, sizeof name - 1};
	if (!from.iov_base || process_vm_readv(getpid(), &to, 1, &from, 1, 0) <= 0)
		snprintf(name, sizeof name, "unreadable");
	for (char *x = name; *x; x++)
		if (*x <= ' ' || *x == ',' || *x > '~')
			*x = '_';
	add_name(c, name);
}
#else
static void keep_name(struct counts *c, const CUpti_Activity *record) {
	(void)c;
	(void)record;
}
#endif

static void add(struct amount *a, uint64_t n, uint64_t bytes) {
	a->count += n;
	a->bytes += bytes;
}

static void count_copy(struct counts *c, const void *record) {
	struct copy_head h;
	memcpy(&h, record, sizeof h);
	enum direction d = OTHER;
	switch (h.copy_kind) {
	case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD: d = TO_DEVICE; break;
	case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH: d = TO_HOST; break;
	case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD: d = ON_DEVICE; break;
	}
	add(&c->copies[d], 1, h.bytes);
}

static void count(struct counts *c, const CUpti_Activity *record) {
	switch (record->kind) {
	case CUPTI_ACTIVITY_KIND_KERNEL:
	case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
		c->kernels++;
		keep_name(c, record);
		break;
	case CUPTI_ACTIVITY_KIND_MEMCPY:
	case CUPTI_ACTIVITY_KIND_MEMCPY2: // between two GPUs
		count_copy(c, record);
		break;
	case CUPTI_ACTIVITY_KIND_MEMSET: {
		struct memset_head h;
		memcpy(&h, record, sizeof h);
		add(&c->memsets, 1, h.bytes);
		break;
	}
	default:
		break;
	}
}

// merge adds what a buffer had.
static void merge(const struct counts *c) {
	pthread_mutex_lock(&counting);
	counts.kernels += c->kernels;
	counts.dropped += c->dropped;
	for (int d = 0; d < DIRECTIONS; d++)
		add(&counts.copies[d], c->copies[d].count, c->copies[d].bytes);
	add(&counts.memsets, c->memsets.count, c->memsets.bytes);
	for (int i = 0; i < c->names; i++)
		add_name(&counts, c->name[i]);
	pthread_mutex_unlock(&counting);
}

static void CUPTIAPI requested(uint8_t **buffer, size_t *size, size_t *most) {
	*buffer = aligned_alloc(ALIGNMENT, BUFFER_BYTES);
	*size = *buffer ? BUFFER_BYTES : 0;
	*most = 0;
}

static void CUPTIAPI completed(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid) {
	(void)size;
	struct counts found = {0}; // no call of CUPTI while a lock of ours is held
	size_t dropped = 0;
	if (cuptiActivityGetNumDroppedRecords(context, stream, &dropped) == CUPTI_SUCCESS)
		found.dropped = dropped;
	CUpti_Activity *record = NULL;
	while (buffer && valid > 0 && cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS)
		count(&found, record);
	merge(&found);
	free(buffer);
}

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

// asks_for_kernels reports whether a function of CUDA, of either API, makes kernels run.
static bool asks_for_kernels(const char *f) {
	return (begins(f, "cudaLaunch") || begins(f, "cuLaunch") || begins(f, "cudaGraphLaunch") || begins(f, "cuGraphLaunch")) &&
		!strstr(f, "HostFunc");
}

// gives_back reports whether a function belongs to a program's end. Then the last records are fetched: the next round of the
// flusher may come too late.
static bool gives_back(const char *f) {
	return begins(f, "cuMemFree") || begins(f, "cuMemHostUnregister") || begins(f, "cuStreamDestroy") || begins(f, "cuDevicePrimaryCtxRe");
}

static void CUPTIAPI called(void *user, CUpti_CallbackDomain domain, CUpti_CallbackId id, const void *data) {
	(void)user;
	(void)id;
	if (domain != CUPTI_CB_DOMAIN_DRIVER_API && domain != CUPTI_CB_DOMAIN_RUNTIME_API)
		return;
	const CUpti_CallbackData *call = data;
	if (!call || !call->functionName)
		return;
	if (call->callbackSite == CUPTI_API_ENTER && asks_for_kernels(call->functionName)) {
		if (atomic_fetch_add(&launches, 1) == 0)
			write_counts(); // at once: the process may end before the flusher comes round
	} else if (call->callbackSite == CUPTI_API_EXIT && gives_back(call->functionName)) {
		cuptiActivityFlushAll(0);
		write_counts();
	}
}

// flush fetches, again and again, all buffers whose records are complete. Forced flushes are for the end only: they would
// take away buffers that are still written to.
static void *flush(void *unused) {
	(void)unused;
	const struct timespec period = {.tv_nsec = PERIOD_MS * 1000000L};
	while (!atomic_load(&ending)) {
		nanosleep(&period, NULL);
		cuptiActivityFlushAll(0);
		write_counts();
	}
	return NULL;
}

static void end(void) {
	atomic_store(&ending, true);
	if (flusher_runs)
		pthread_join(flusher, NULL);
	cuptiActivityFlushAll(1);
	write_counts();
}

// start_flusher makes the thread, which no signal of the program may reach.
static void start_flusher(void) {
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	flusher_runs = pthread_create(&flusher, NULL, flush, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

// InitializeInjection is what the driver calls.
__attribute__((visibility("default"))) int InitializeInjection(void) {
	static atomic_bool done;
	const char *prefix = getenv("HFREDUCE_TRACE_OUT");
	if (!prefix || !*prefix || atomic_exchange(&done, true))
		return 1;
	snprintf(path, sizeof path, "%s.%d", prefix, (int)getpid());

	static CUpti_SubscriberHandle subscriber;
	if (checked("cuptiSubscribe", cuptiSubscribe(&subscriber, called, NULL))) {
		checked("cuptiEnableDomain", cuptiEnableDomain(1, subscriber, CUPTI_CB_DOMAIN_DRIVER_API));
		checked("cuptiEnableDomain", cuptiEnableDomain(1, subscriber, CUPTI_CB_DOMAIN_RUNTIME_API));
	}
	checked("cuptiActivityRegisterCallbacks", cuptiActivityRegisterCallbacks(requested, completed));
	// The kind KERNEL runs kernels one after another, so it is only second choice.
	if (cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) != CUPTI_SUCCESS)
		checked("kernels", cuptiActivityEnable(CUPTI_ACTIVITY_KIND_KERNEL));
	checked("copies", cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY));
	checked("copies between GPUs", cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY2));
	checked("memsets", cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET));
	write_counts(); // so that a process that does nothing is seen too
	start_flusher();
	atexit(end);
	return 1;
}
