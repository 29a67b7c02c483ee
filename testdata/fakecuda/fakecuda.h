// SPDX-License-Identifier: Apache-2.0

// What the files of the fake share. README.md says what is modelled.
//
// Locks, in the order in which they are taken: the issue lock of one device (held by what enqueues work, and by what waits
// for all work of the device, as cudaFree does), then fc.lock, which guards all state. The threads that execute work take
// fc.lock only, and never while they execute.

#ifndef FAKECUDA_H
#define FAKECUDA_H

#include "abi.h"

#include <pthread.h>
#include <stdbool.h>

#pragma GCC visibility push(hidden)

enum { MAX_DEVICES = 64, DIRECTIONS = 2 };
enum direction { TO_HOST, TO_DEVICE };

// config is the environment, read once at the first call.
struct config {
	int devices, queues, version;
	uint64_t seed, delay_us, bandwidth, memory;
	bool no_memops, no_batch, strict, host_offset, malloc_syncs, capturing, capture, greedy;
};

// block is a range of memory that CUDA knows of.
enum block_kind { DEVICE_MEMORY, IPC_MEMORY, REGISTERED, HOST_MEMORY };
struct block {
	struct block *next;
	enum block_kind kind;
	int device; // where it is, or which was current when it was registered
	unsigned flags;
	uintptr_t address; // as devices see it
	char *host;        // where the fake reaches it; of host memory: as the program sees it
	size_t bytes;      // as asked for
	size_t mapped;     // in whole pages
	int pins;          // operations that are issued and use it
	int fd;            // the memfd behind device memory
	uint64_t inode;    // of fd: names the memory in all processes
	int opened;        // how often IPC_MEMORY is open
};

// record is one recording of an event: the point in a stream that a wait captures.
struct record {
	int refs;
	int device;
	bool done;
	uint64_t ns;
};

struct event {
	cudaEvent_t handle;
	int device;
	unsigned flags;
	struct record *last; // NULL: never recorded
};

enum op_kind { OP_COPY, OP_SET, OP_RECORD, OP_WAIT_EVENT, OP_WAIT, OP_WRITE, OP_FENCE };

// side is one end of an operation on memory.
struct side {
	struct block *block; // NULL: pageable host memory
	char *at;            // where the fake reaches it
	size_t pitch;
};

struct op {
	struct op *next;      // in its queue
	struct op *following; // in its stream
	struct stream *stream;
	uint64_t number; // of its device, in order of issue
	enum op_kind kind;
	struct side dst, src; // memory operations have dst only
	size_t width, height;
	uint64_t value;
	unsigned flags;
	int bytes; // of the word of a memory operation
	struct record *record;
};

// engine makes the copies of a device in one direction.
struct engine {
	pthread_mutex_t lock;
	pthread_cond_t next;
	uint64_t tickets, turn;
};

// queue is a thread that executes operations in order of issue: those of one stream, or of all streams that share it.
struct queue {
	struct device *device;
	struct op *head, *tail;
	pthread_cond_t work;
	bool closing; // its only stream is destroyed: end when it is empty
	struct engine *kept; // its thread's own: the engine that it has
};

struct stream {
	struct stream *next; // of the device
	cudaStream_t handle;
	struct device *device;
	struct queue *queue;
	unsigned flags;
	bool shared; // the queue is the device's
	bool dead;   // destroyed, or about to be freed when nothing refers to it any more
	int holds;   // host threads that look at it while they wait
	uint64_t random;
	uint64_t issued, done;
	struct op *oldest, *newest; // not done
};

struct device {
	int ordinal;
	pthread_mutex_t issue;
	struct engine engine[DIRECTIONS];
	int error; // sticky; atomic, as operations look at it while they run
	uint64_t issued, pending;
	struct stream *streams, *legacy, *per_thread;
	struct queue *queues[64];
	unsigned created; // streams so far
	uintptr_t free, end; // addresses that no memory had yet
	uint64_t used;
	bool peers[MAX_DEVICES];
};

struct state {
	pthread_mutex_t lock;
	pthread_cond_t progress; // something was done, or failed
	int waiters;             // threads that wait for it
	struct device device[MAX_DEVICES];
	struct block *blocks;
};

extern struct state fc;
extern struct config fc_config;

// counters are in the order of the file of FAKECUDA_STATS.
enum counter {
	COPIES_D2H, BYTES_D2H, COPIES_H2D, BYTES_H2D, COPIES_PAGEABLE, WAITS, WRITES, KERNELS, HOST_FUNCS,
	STREAMS_LIVE, EVENTS_LIVE, ALLOCATIONS_LIVE, REGISTRATIONS_LIVE, EVENT_QUERIES, CALLS_TOTAL, COUNTERS,
};

void fc_stats_open(void);
void fc_count(enum counter c, int64_t n);

void fc_faults_parse(void);
int fc_fault(const char *call);
int fc_async_fault(void);
bool fc_unsafe(const char *call); // while another thread captures

// Every exported function begins with one of these.
int fc_enter(const char *call);        // counts, and injects faults
int fc_enter_device(const char *call); // also: needs the current device, and that it has not failed
int fc_enter_driver(const char *call); // of the driver, which does not touch the last error of the runtime
int fc_enter_driver_device(const char *call);
void fc_enter_only(const char *call); // for those that cannot fail

int fc_fail(int code); // remembers code as the thread's last error, and returns it
int fc_failed(struct device *d);
void fc_break(struct device *d, int code);
_Noreturn void fc_bug(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct device *fc_current(void);
int fc_current_ordinal(void);
void fc_bind(void); // makes the device's context current to the thread, as most calls of the runtime do

enum handle_kind { STREAM_HANDLE = 5, EVENT_HANDLE = 6 };
void *fc_handle_new(enum handle_kind kind, void *object);
void *fc_handle_get(enum handle_kind kind, const void *handle);
void fc_handle_free(enum handle_kind kind, void *handle);

void fc_lock(void);
void fc_unlock(void);
void fc_wait(void);     // for progress
void fc_progress(void); // tells all that wait
void fc_drain(struct device *d);
void fc_lock_issue(struct device *d); // and fc.lock
void fc_unlock_issue(struct device *d);

struct stream *fc_stream_find(cudaStream_t handle);
struct stream *fc_stream_begin(cudaStream_t handle, int *error); // takes both locks
void fc_stream_end(struct stream *s);
int fc_stream_wait(struct stream *s, uint64_t until); // holds fc.lock
void fc_stream_release(struct stream *s);             // frees it if nothing refers to it
void fc_record_release(struct record *r);

struct op *fc_op(enum op_kind kind);
void fc_issue(struct stream *s, struct op *op);
struct queue *fc_queue_new(struct device *d);
bool fc_execute(struct op *op);
void fc_engine_take(struct engine *e, struct queue *q);
void fc_engine_done(struct queue *q);
void fc_engine_yield(struct queue *q);
uint64_t fc_now(void);
void fc_sleep_until(uint64_t ns);
uint64_t fc_random(uint64_t *state);

// found is what fc_find says of a range of addresses.
struct found {
	struct block *block; // NULL: none
	bool whole;          // the range lies in the block
	bool by_device;      // the address is the one that devices use
	char *at;
};
struct found fc_find(uintptr_t address, size_t bytes);
void fc_block_add(struct block *b);
void fc_block_remove(struct block *b);
struct block *fc_block_at(uintptr_t address, enum block_kind kind);
int fc_device_map(struct block *b); // maps b->fd at a new address of b->device
void fc_device_unmap(struct block *b);
size_t fc_pages(size_t bytes);
bool fc_in_arena(uintptr_t address);
uintptr_t fc_host_offset(void);

#pragma GCC visibility pop

#define ENTER_WITH(enter)                                                                                                                                      \
	do {                                                                                                                                                       \
		int error_ = enter(__func__);                                                                                                                          \
		if (error_)                                                                                                                                            \
			return error_;                                                                                                                                     \
	} while (0)
#define ENTER() ENTER_WITH(fc_enter)
#define ENTER_DEVICE() ENTER_WITH(fc_enter_device)
#define ENTER_DRIVER() ENTER_WITH(fc_enter_driver)
#define ENTER_DRIVER_DEVICE() ENTER_WITH(fc_enter_driver_device)

#endif
