// SPDX-License-Identifier: Apache-2.0

// The functions of CUDA, found at run time and called by way of the table cu_lib, as cu_lib.cudaMalloc(...).

#ifndef CUDA_LIBRARY_H
#define CUDA_LIBRARY_H

#include "abi.h"
#include "seam.h"

#pragma GCC visibility push(hidden)

#define CU_MEMBER(result, name, parameters) result(*name) parameters;
struct cu_library {
	HF_RUNTIME(CU_MEMBER)
	HF_DRIVER(CU_MEMBER)
	HF_OPTIONAL(CU_MEMBER) // NULL where the driver lacks it
};
#undef CU_MEMBER

extern struct cu_library cu_lib;

// The functions by number.
#define CU_NUMBER(result, name, parameters) CU_CALL_##name,
enum cu_call { CU_NO_CALL, HF_RUNTIME(CU_NUMBER) CU_RUNTIME_CALLS, HF_DRIVER(CU_NUMBER) HF_OPTIONAL(CU_NUMBER) CU_CALLS };
#undef CU_NUMBER

// CALL calls a function of the table and makes a cu_result of what it returns.
#define CALL(name, ...) ((struct cu_result){ .code = (int32_t)cu_lib.name(__VA_ARGS__), .call = CU_CALL_##name })

// cu_thread is what a thread was set to before cu_enter.
struct cu_thread {
	int device, relaxed; // relaxed: its mode was exchanged
	hf_capture_mode mode;
};

// cu_enter makes a device the thread's current one and says in before which one was. Threads are shared by all goroutines,
// and by the program that Go's code is part of. It also lets the thread do what CUDA forbids to all threads by default while
// one of them captures a stream into a graph: cudaEventQuery, cudaHostRegister and others would fail and spoil that graph.
struct cu_result cu_enter(int device, struct cu_thread *before);
// cu_leave ends what cu_enter began, and returns the result of the call in between. If that failed, it takes the error
// away from the thread: the next who asks for the thread's last error, such as PyTorch, must not take it for its own.
struct cu_result cu_leave(int device, const struct cu_thread *before, struct cu_result result);

// cu_used tells whether a device has a context in this process, which most calls would make. It is true if that cannot be
// told.
int cu_used(int device);
// cu_bind_context makes the context of the thread's device current to the driver, between cu_enter and cu_leave: most calls
// of the runtime do that on the way, but a call of the driver that is a thread's first one would find none.
struct cu_result cu_bind_context(void);

#pragma GCC visibility pop

#endif
