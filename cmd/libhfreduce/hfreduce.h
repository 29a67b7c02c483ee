// SPDX-License-Identifier: Apache-2.0

/* hfreduce for C: allreduce and its kin over all ranks of a job, in host or GPU memory. docs/c-api.md has an example.
 *
 * Every rank of a job calls hfr_init once; all ranks of a communicator then make the same calls in the same order. Every
 * function may be called from any thread; collectives of a communicator run one after the other, in the order of the calls.
 * Functions that return hfr_status tell more by hfr_last_error, in the same thread.
 *
 * A call with bad arguments returns HFR_ERR_INVALID at once and changes nothing. Any later fault breaks the communicator for
 * good: pending and later calls on every rank fail with the first cause. When a call that waits returns, with or without an
 * error, the buffers are the caller's again.
 *
 * The library has threads of its own, which a fork does not copy: in a child that was forked after the library was loaded every
 * call returns HFR_ERR_FORKED. Load it after fork, or start the child anew (exec, Python's "spawn"). */

#ifndef HFREDUCE_H
#define HFREDUCE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum hfr_status {
	HFR_OK = 0,
	HFR_ERR_INVALID = 1,       /* a bad argument or option; nothing was done */
	HFR_ERR_SYSTEM = 2,        /* the system, CUDA or an adapter refused something */
	HFR_ERR_TIMEOUT = 3,       /* the ranks did not meet, or a collective made no progress, in time */
	HFR_ERR_PEER_LOST = 4,     /* another rank ended, or cannot be reached */
	HFR_ERR_MISMATCH = 5,      /* the ranks made different calls */
	HFR_ERR_ABORTED = 6,       /* some rank called hfr_abort */
	HFR_ERR_CORRUPT = 7,       /* data was changed on its way, or results differ (checksums) */
	HFR_ERR_CLOSED = 8,        /* the communicator was closed */
	HFR_ERR_NOT_SUPPORTED = 9, /* this machine or build lacks what the call needs */
	HFR_ERR_FORKED = 10,       /* the process was forked after the library was loaded */
	HFR_IN_PROGRESS = 11       /* no error: hfr_wait has come to the end of its time first */
} hfr_status;

/* NCCL's numbers. */
typedef enum hfr_dtype {
	HFR_INT8 = 0, HFR_UINT8 = 1, HFR_INT32 = 2, HFR_UINT32 = 3, HFR_INT64 = 4, HFR_UINT64 = 5, HFR_FLOAT16 = 6,
	HFR_FLOAT32 = 7, HFR_FLOAT64 = 8, HFR_BFLOAT16 = 9, HFR_FLOAT8E4M3 = 10, HFR_FLOAT8E5M2 = 11
} hfr_dtype;

typedef enum hfr_op { HFR_SUM = 0, HFR_PROD = 1, HFR_MAX = 2, HFR_MIN = 3, HFR_AVG = 4 } hfr_op;

/* Handles. 0 is none. */
typedef uint64_t hfr_comm;
typedef uint64_t hfr_request;

/* hfr_options: what is 0 or NULL is from the environment (HFREDUCE_..., and the launcher's variables for rank, world size and
 * meeting point: torchrun, srun, mpirun), else the default. Set size to sizeof(hfr_options). */
typedef struct hfr_options {
	size_t size;
	int32_t rank, world_size;  /* both 0: from the environment */
	const char *rendezvous;    /* "host:port" of rank 0 */
	const char *job_id, *node;
	const char *transport;     /* "auto", "tcp", "verbs" */
	const char *cuda;          /* "auto", "on", "off" */
	int64_t init_timeout_ms;   /* of hfr_init and hfr_split; negative: none */
	int64_t timeout_ms;        /* of a collective without progress; negative: none */
} hfr_options;

typedef struct hfr_info {
	int32_t rank, world_size;
	int32_t local_rank, local_size; /* among the ranks of this node */
	int32_t node, nodes;
} hfr_info;

/* hfr_version returns the library's version, and hfr_status_name a status's name. */
const char *hfr_version(void);
const char *hfr_status_name(hfr_status status);
/* hfr_last_error returns the text of the last call of this thread that failed, valid until the next one that fails. It names the
 * culprit: rank, host, process, GPU. */
const char *hfr_last_error(void);

/* hfr_init meets the other ranks of the job. options may be NULL. */
hfr_status hfr_init(const hfr_options *options, hfr_comm *comm);
/* hfr_split makes communicators of those ranks that give the same color, in the order of key, then rank. All ranks of comm call
 * it; a negative color is in none, and gets 0. */
hfr_status hfr_split(hfr_comm comm, int32_t color, int32_t key, hfr_comm *part);
/* hfr_shrink makes a communicator of the ranks that are left of a broken one; those call it. */
hfr_status hfr_shrink(hfr_comm comm, hfr_comm *smaller);
hfr_status hfr_get_info(hfr_comm comm, hfr_info *info);
/* hfr_abort breaks the communicator on all ranks, at once; what every rank gets to read is why. */
hfr_status hfr_abort(hfr_comm comm, const char *why);
/* hfr_close ends the communicator, with what was started on it. All ranks call it. The handle and its memory (hfr_alloc) mean
 * nothing any more, also if it returns an error; its requests are done, and hfr_wait still tells how. */
hfr_status hfr_close(hfr_comm comm);

/* hfr_alloc returns zeroed host memory that the ranks of a node reduce in place, without copying it first. */
hfr_status hfr_alloc(hfr_comm comm, size_t bytes, void **memory);
hfr_status hfr_free(hfr_comm comm, void *memory);

/* Collectives. send and recv hold elements of dtype; in place: send == recv for allreduce, reduce and broadcast; send is the
 * rank's block of recv for all_gather, recv the rank's block of send for reduce_scatter.
 *
 * stream says where the buffers are: HFR_HOST for host memory, else a cudaStream_t for GPU memory, in whose order the call works:
 * it begins after what the stream was given before, and what the stream is given next comes after it. NULL is the legacy default stream.
 *
 * Without request a call waits until the result is in recv. With request it returns when the work has been started (for GPU
 * memory: when the GPU has it), and hfr_wait tells the outcome; until then the buffers belong to the collective. HFR_FORGET in its
 * place starts without a request: a later call, or the stream's end and hfr_close, tell of errors. */
#define HFR_HOST ((void *)-1)
#define HFR_FORGET ((hfr_request *)-1)

hfr_status hfr_allreduce(hfr_comm comm, const void *send, void *recv, size_t count, hfr_dtype dtype, hfr_op op, void *stream, hfr_request *request);
/* Only root's recv is written; the others' may be NULL. */
hfr_status hfr_reduce(hfr_comm comm, const void *send, void *recv, size_t count, hfr_dtype dtype, hfr_op op, int32_t root, void *stream, hfr_request *request);
/* Only root's send is read; the others' may be NULL. */
hfr_status hfr_broadcast(hfr_comm comm, const void *send, void *recv, size_t count, hfr_dtype dtype, int32_t root, void *stream, hfr_request *request);
/* send has count x world size elements, recv count. */
hfr_status hfr_reduce_scatter(hfr_comm comm, const void *send, void *recv, size_t count, hfr_dtype dtype, hfr_op op, void *stream, hfr_request *request);
/* send has count elements, recv count x world size. */
hfr_status hfr_all_gather(hfr_comm comm, const void *send, void *recv, size_t count, hfr_dtype dtype, void *stream, hfr_request *request);
hfr_status hfr_barrier(hfr_comm comm);

/* hfr_wait waits for a request, at most for so many milliseconds (0: looks; negative: for ever), and returns its outcome, after
 * which the request means nothing any more, or HFR_IN_PROGRESS. */
hfr_status hfr_wait(hfr_request request, int64_t timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
