// SPDX-License-Identifier: Apache-2.0

// Another thread that captures a stream into a graph, in the mode that is the default. CUDA then refuses what it calls
// potentially unsafe to all threads, and the graph is lost, unless the thread that calls has said that it knows better.

#include "fakecuda.h"

#include <string.h>

enum { GLOBAL, THREAD_LOCAL };

static __thread int mode = GLOBAL;

// CUDA does not list them; these are what others were seen to stumble over, and what they keep away from captures.
static const char *const unsafe[] = {
	"cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaFreeHost", "cudaHostRegister", "cudaHostUnregister", "cudaMemcpy",
	"cudaStreamCreateWithPriority", "cudaStreamDestroy", "cudaStreamQuery", "cudaStreamSynchronize",
	"cudaEventCreateWithFlags", "cudaEventDestroy", "cudaEventQuery", "cudaEventSynchronize",
};

bool fc_unsafe(const char *call) {
	if (!fc_config.capture || mode != GLOBAL)
		return false;
	for (size_t i = 0; i < sizeof unsafe / sizeof *unsafe; i++)
		if (strcmp(call, unsafe[i]) == 0)
			return true;
	return false;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(int *wanted) {
	ENTER_DEVICE();
	if (!wanted || *wanted < GLOBAL || *wanted > CAPTURE_RELAXED)
		return fc_fail(INVALID_VALUE);
	int before = mode;
	mode = *wanted;
	*wanted = before;
	return SUCCESS;
}
