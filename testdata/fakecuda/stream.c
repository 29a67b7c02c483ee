// SPDX-License-Identifier: Apache-2.0

// Streams: their life, and how operations are given to them.

#include "fakecuda.h"

#include <stdlib.h>

// make adds a stream to a device. It holds fc.lock.
static struct stream *make(struct device *d, unsigned flags) {
	struct stream *s = calloc(1, sizeof *s);
	if (!s)
		fc_bug("out of memory");
	s->device = d;
	s->flags = flags;
	unsigned n = d->created++;
	// Streams differ in their delays, and each has the same ones in every run.
	s->random = (fc_config.seed * 0x9e3779b97f4a7c15 ^ (uint64_t)(d->ordinal + 1) << 32 ^ (n + 1)) * 0xbf58476d1ce4e5b9 | 1;
	s->shared = fc_config.queues > 0;
	if (s->shared) {
		struct queue **q = &d->queues[n % (unsigned)fc_config.queues];
		if (!*q)
			*q = fc_queue_new(d);
		s->queue = *q;
	} else {
		s->queue = fc_queue_new(d);
	}
	s->next = d->streams;
	d->streams = s;
	return s;
}

static struct stream *standing(struct stream **s, struct device *d) {
	if (!*s)
		*s = make(d, 0);
	return *s;
}

// fc_stream_find returns what a handle means to the thread, or NULL. The legacy stream, and the one that all threads share
// as their own, are made when they are first named.
struct stream *fc_stream_find(cudaStream_t handle) {
	struct device *d = fc_current();
	switch ((uintptr_t)handle) {
	case 0:
	case STREAM_LEGACY:
		return standing(&d->legacy, d);
	case STREAM_PER_THREAD:
		return standing(&d->per_thread, d);
	default:
		return fc_handle_get(STREAM_HANDLE, handle);
	}
}

// fc_stream_begin finds a stream in order to issue work to it. The issue lock comes before fc.lock, hence the second look.
struct stream *fc_stream_begin(cudaStream_t handle, int *error) {
	fc_lock();
	struct stream *s = fc_stream_find(handle);
	struct device *d = s ? s->device : NULL;
	fc_unlock();
	if (!s) {
		*error = INVALID_HANDLE;
		return NULL;
	}
	fc_lock_issue(d);
	s = fc_stream_find(handle);
	*error = s ? d->error : INVALID_HANDLE;
	if (!*error)
		return s;
	fc_unlock_issue(d);
	return NULL;
}

void fc_stream_end(struct stream *s) { fc_unlock_issue(s->device); }

// fc_stream_wait waits until as many operations of the stream are done, or returns how its device failed.
int fc_stream_wait(struct stream *s, uint64_t until) {
	struct device *d = s->device;
	s->holds++;
	while (s->done < until && !d->error)
		fc_wait();
	s->holds--;
	fc_stream_release(s);
	return d->error;
}

void fc_stream_release(struct stream *s) {
	if (!s->dead || s->oldest || s->holds)
		return;
	struct stream **at = &s->device->streams;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	if (!s->shared) {
		s->queue->closing = true;
		pthread_cond_signal(&s->queue->work);
	}
	free(s);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
	ENTER_DEVICE();
	(void)priority; // out of range is as good as the nearest in range
	if (!stream || flags & ~(unsigned)STREAM_NON_BLOCKING)
		return fc_fail(INVALID_VALUE);
	struct device *d = fc_current();
	fc_lock_issue(d);
	struct stream *s = make(d, flags);
	s->handle = fc_handle_new(STREAM_HANDLE, s);
	*stream = s->handle;
	fc_unlock_issue(d);
	fc_count(STREAMS_LIVE, 1);
	return SUCCESS;
}

// cudaStreamDestroy returns at once: what is queued is still done. It works on a device that failed too, so that no thread is
// left behind, and returns the failure nevertheless.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
	int failed = fc_enter_device(__func__);
	if (failed && !fc_failed(fc_current()))
		return failed;
	fc_lock();
	struct stream *s = fc_handle_get(STREAM_HANDLE, stream);
	if (!s) {
		fc_unlock();
		return fc_fail(INVALID_HANDLE);
	}
	int error = s->device->error;
	fc_handle_free(STREAM_HANDLE, stream);
	s->dead = true;
	fc_stream_release(s);
	fc_unlock();
	fc_count(STREAMS_LIVE, -1);
	return fc_fail(failed ? failed : error);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
	ENTER_DEVICE();
	fc_lock();
	struct stream *s = fc_stream_find(stream);
	int error = INVALID_HANDLE;
	if (s)
		error = s->device->error ? s->device->error : s->oldest ? NOT_READY : SUCCESS;
	fc_unlock();
	return fc_fail(error);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
	ENTER_DEVICE();
	fc_lock();
	struct stream *s = fc_stream_find(stream);
	int error = s ? fc_stream_wait(s, s->issued) : INVALID_HANDLE;
	fc_unlock();
	return fc_fail(error);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, int *status) {
	ENTER_DEVICE();
	fc_lock();
	struct stream *s = fc_stream_find(stream);
	fc_unlock();
	if (!s)
		return fc_fail(INVALID_HANDLE);
	if (!status)
		return fc_fail(INVALID_VALUE);
	*status = fc_config.capturing;
	return SUCCESS;
}
