// SPDX-License-Identifier: Apache-2.0

// Events. Each recording is an object of its own, so that a wait keeps the one that it captured.

#include "fakecuda.h"

#include <stdlib.h>

void fc_record_release(struct record *r) {
	if (r && --r->refs == 0)
		free(r);
}

static struct event *find(cudaEvent_t event) { return fc_handle_get(EVENT_HANDLE, event); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
	ENTER_DEVICE();
	const unsigned known = EVENT_BLOCKING_SYNC | EVENT_DISABLE_TIMING | EVENT_INTERPROCESS;
	if (!event || flags & ~known || (flags & EVENT_INTERPROCESS && !(flags & EVENT_DISABLE_TIMING)))
		return fc_fail(INVALID_VALUE);
	struct event *e = calloc(1, sizeof *e);
	if (!e)
		return fc_fail(MEMORY_ALLOCATION);
	e->device = fc_current_ordinal();
	e->flags = flags;
	fc_lock();
	e->handle = fc_handle_new(EVENT_HANDLE, e);
	*event = e->handle;
	fc_unlock();
	fc_count(EVENTS_LIVE, 1);
	return SUCCESS;
}

// cudaEventDestroy leaves a recording that is queued as it is. It works on a device that failed too.
cudaError_t cudaEventDestroy(cudaEvent_t event) {
	int failed = fc_enter_device(__func__);
	if (failed && !fc_failed(fc_current()))
		return failed;
	fc_lock();
	struct event *e = find(event);
	if (!e) {
		fc_unlock();
		return fc_fail(INVALID_HANDLE);
	}
	int error = fc.device[e->device].error;
	fc_handle_free(EVENT_HANDLE, event);
	fc_record_release(e->last);
	free(e);
	fc_unlock();
	fc_count(EVENTS_LIVE, -1);
	return fc_fail(failed ? failed : error);
}

static int record(struct stream *s, struct event *e) {
	if (!e || e->device != s->device->ordinal)
		return INVALID_HANDLE;
	struct record *r = calloc(1, sizeof *r);
	if (!r)
		return MEMORY_ALLOCATION;
	r->refs = 1;
	r->device = e->device;
	fc_record_release(e->last);
	e->last = r;
	struct op *op = fc_op(OP_RECORD);
	op->record = r;
	fc_issue(s, op);
	return SUCCESS;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
	ENTER_DEVICE();
	int error;
	struct stream *s = fc_stream_begin(stream, &error);
	if (!s)
		return fc_fail(error);
	error = record(s, find(event));
	fc_stream_end(s);
	return fc_fail(error);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
	ENTER_DEVICE();
	if (flags)
		return fc_fail(INVALID_VALUE);
	int error;
	struct stream *s = fc_stream_begin(stream, &error);
	if (!s)
		return fc_fail(error);
	struct event *e = find(event);
	if (!e) {
		error = INVALID_HANDLE;
	} else if (e->last) {
		struct op *op = fc_op(OP_WAIT_EVENT);
		op->record = e->last;
		fc_issue(s, op);
	}
	fc_stream_end(s);
	return fc_fail(error);
}

// state is that of an event that was never recorded, too: it is done.
static int state(const struct event *e) {
	if (!e)
		return INVALID_HANDLE;
	int error = fc.device[e->device].error;
	if (error)
		return error;
	return e->last && !e->last->done ? NOT_READY : SUCCESS;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
	ENTER_DEVICE();
	fc_count(EVENT_QUERIES, 1);
	fc_lock();
	int error = state(find(event));
	fc_unlock();
	return fc_fail(error);
}

// cudaEventSynchronize waits for the recording that is the last when it is called.
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
	ENTER_DEVICE();
	fc_lock();
	struct event *e = find(event);
	int error = state(e);
	if (error == NOT_READY) {
		struct record *r = e->last;
		struct device *d = &fc.device[r->device];
		r->refs++;
		while (!r->done && !d->error)
			fc_wait();
		fc_record_release(r);
		error = d->error;
	}
	fc_unlock();
	return fc_fail(error);
}

static int elapsed(const struct event *from, const struct event *to, float *ms) {
	if (!from || !to || from->device != to->device || (from->flags | to->flags) & EVENT_DISABLE_TIMING || !from->last || !to->last)
		return INVALID_HANDLE;
	int error = state(from);
	if (!error)
		error = state(to);
	if (!error)
		*ms = (float)((double)(int64_t)(to->last->ns - from->last->ns) / 1e6);
	return error;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
	ENTER_DEVICE();
	if (!ms)
		return fc_fail(INVALID_VALUE);
	fc_lock();
	int error = elapsed(find(from), find(to), ms);
	fc_unlock();
	return fc_fail(error);
}
