// SPDX-License-Identifier: Apache-2.0

// A CUDA that does nothing: every function of abi.h, weak, for recorder.c to put others in place of some.

#include "../../abi.h"

#ifdef OLD_DRIVER // which does not copy
#define cuMemcpy2DAsync_v2 cuMemcpy2DAsync_other
#endif

#define NOTHING(result, name, parameters) \
	__attribute__((weak)) result name parameters { return (result)0; }
HF_RUNTIME(NOTHING)
HF_DRIVER(NOTHING)
HF_OPTIONAL(NOTHING)
