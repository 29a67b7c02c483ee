// SPDX-License-Identifier: Apache-2.0

// What Go sees of C: plain structures, and addresses and handles as integers.
//
// A function that takes a device makes it the thread's current one for the length of the call. See cu_enter in library.h.

#ifndef CUDA_SEAM_H
#define CUDA_SEAM_H

#include <stdint.h>

// Not exported, also where the program exports its symbols to what it loads.
#pragma GCC visibility push(hidden)

// How a call of CUDA ended: its code, 0 for success, and which function it was (cu_call_name).
struct cu_result {
	int32_t code, call;
};

// cu_open loads a library, or with loaded finds one that this process has. It returns 0 with the reason as text if there
// is none.
uintptr_t cu_open(const char *name, int loaded, char *why, int size);
// cu_close gives up what cu_open returned.
void cu_close(uintptr_t library);
// cu_driver_version returns the version of CUDA that a driver serves, e.g. 12040, and 0 if it does not say.
int cu_driver_version(uintptr_t driver);
// cu_bind finds the functions in the two libraries; it must be called before all below, and once. It returns 0, or 1 with
// the name of the function that the runtime lacks, or 2 with the name of one that the driver lacks.
int cu_bind(uintptr_t runtime, uintptr_t driver, char *missing, int size);
enum { CU_MEMORY_OPERATIONS = 1, CU_BATCHES = 2, CU_ADDRESS_RANGES = 4 };
// cu_has tells which optional functions the driver has.
int cu_has(void);

const char *cu_call_name(int call);
// cu_error_text returns CUDA's own name of a result, and its text.
void cu_error_text(struct cu_result result, const char **name, const char **text);

struct cu_result cu_versions(int *runtime, int *driver);
struct cu_result cu_device_count(int *count);

struct cu_properties {
	char name[256], pci[32];
	int32_t major, minor, multiprocessors, copy_engines, unified_addressing, host_pointers;
};
struct cu_result cu_query_device(int device, struct cu_properties *out);
struct cu_result cu_mem_info(int device, uint64_t *free_bytes, uint64_t *total);
// cu_last_error returns the error of a lost context, or another one that a harmless call meets.
struct cu_result cu_last_error(int device);
struct cu_result cu_synchronize_device(int device);

struct cu_result cu_malloc(int device, uint64_t bytes, uint64_t *out);
struct cu_result cu_free(int device, uint64_t address);
struct cu_result cu_host_alloc(int device, uint64_t bytes, void **out, uint64_t *address);
struct cu_result cu_host_free(int device, uintptr_t memory);
struct cu_result cu_host_register(int device, uintptr_t memory, uint64_t bytes, uint64_t *address);
struct cu_result cu_host_unregister(int device, uintptr_t memory);
// cu_pointer tells of what kind memory is (cudaMemoryType) and on which device, -1 for none.
struct cu_result cu_pointer(uint64_t address, int *type, int *device);
struct cu_result cu_address_range(int device, uint64_t address, uint64_t *base, uint64_t *bytes);
// cu_copy waits until it is done.
struct cu_result cu_copy(int device, uint64_t dst, uint64_t src, uint64_t bytes, int kind);

struct cu_result cu_stream(int device, int high, uint64_t *out);
struct cu_result cu_stream_destroy(int device, uint64_t stream);
struct cu_result cu_stream_query(int device, uint64_t stream);
struct cu_result cu_stream_synchronize(int device, uint64_t stream);
struct cu_result cu_stream_capturing(int device, uint64_t stream, int *capturing);

struct cu_result cu_event(int device, int timing, uint64_t *out);
struct cu_result cu_event_destroy(int device, uint64_t event);
struct cu_result cu_event_query(int device, uint64_t event);
struct cu_result cu_event_synchronize(int device, uint64_t event);
struct cu_result cu_event_elapsed(int device, uint64_t from, uint64_t to, float *milliseconds);

struct cu_result cu_can_access(int device, int peer, int *can);
struct cu_result cu_enable_peer(int device, int peer);
struct cu_result cu_ipc_get(int device, uint64_t address, uint8_t handle[64]);
struct cu_result cu_ipc_open(int device, const uint8_t handle[64], uint64_t *out);
struct cu_result cu_ipc_close(int device, uint64_t address);

// The hot path. Go's command has the layout of cu_command, and its operations these values.
enum cu_operation { CU_COPY, CU_COPY_2D, CU_FILL, CU_WRITE, CU_WAIT, CU_RECORD, CU_WAIT_EVENT };
struct cu_command {
	uint32_t op, value; // value: the kind of a copy, the byte of a fill, the value of a word
	uint64_t stream;
	uint64_t dst, src, bytes;               // dst: also the word, or the event; bytes: also the width of a copy
	uint64_t dst_pitch, src_pitch, height;  // of a copy in two dimensions
};
struct cu_ran {
	int32_t code, call;
	int32_t done; // how many commands were given to CUDA: all, or the number of the one that failed
};
// cu_run gives commands to CUDA in order, and stops at the first that fails. With CU_BATCHES in features it gives memory
// operations that follow one another on one stream to CUDA at once.
struct cu_ran cu_run(int device, const struct cu_command *list, int n, int features);

#pragma GCC visibility pop

#endif
