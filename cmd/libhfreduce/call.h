// SPDX-License-Identifier: Apache-2.0

/* What wrap.c and Go share, and no caller sees. */

#ifndef HFREDUCE_CALL_H
#define HFREDUCE_CALL_H

#include "hfreduce.h"

enum hfr_call_kind { HFR_CALL_ALLREDUCE, HFR_CALL_REDUCE, HFR_CALL_BROADCAST, HFR_CALL_REDUCE_SCATTER, HFR_CALL_ALL_GATHER, HFR_CALL_BARRIER };

/* What becomes of a call: it is waited for, or gets a request, or is forgotten. */
enum hfr_call_end { HFR_CALL_WAITS, HFR_CALL_ASKS, HFR_CALL_FORGETS };

/* A collective as it was called. A stream is a number here, as some are that no pointer of Go's may be. */
struct hfr_call {
	hfr_comm comm;
	const void *send;
	void *recv;
	uint64_t stream, count;
	int32_t kind, dtype, op, root, end;
};

#define HFR_CALL_HOST UINT64_MAX

#endif
