// SPDX-License-Identifier: Apache-2.0

// Queues: threads that execute what streams were given.

#include "fakecuda.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

struct op *fc_op(enum op_kind kind) {
	struct op *op = calloc(1, sizeof *op);
	if (!op)
		fc_bug("out of memory");
	op->kind = kind;
	return op;
}

static void pin(struct block *b, int n) {
	if (b)
		b->pins += n;
}

// fc_issue gives an operation to a stream. It holds the issue lock and fc.lock.
void fc_issue(struct stream *s, struct op *op) {
	struct device *d = s->device;
	op->stream = s;
	op->number = ++d->issued;
	d->pending++;
	s->issued++;
	pin(op->dst.block, 1);
	pin(op->src.block, 1);
	if (op->record)
		op->record->refs++;
	if (s->newest)
		s->newest->following = op;
	else
		s->oldest = op;
	s->newest = op;
	struct queue *q = s->queue;
	if (q->tail)
		q->tail->next = op;
	else
		q->head = op;
	q->tail = op;
	pthread_cond_signal(&q->work);
}

// before tells whether a stream has work that was issued before the operation.
static bool before(const struct stream *s, const struct op *op) {
	return s && s->oldest && s->oldest->number < op->number;
}

// blocked tells whether an operation has to wait for other streams: for the event that it names; and between the legacy
// stream and those that are not created as non-blocking, for what was issued earlier.
static bool blocked(const struct op *op) {
	const struct device *d = op->stream->device;
	if (op->kind == OP_WAIT_EVENT && !op->record->done && !fc.device[op->record->device].error)
		return true;
	if (op->stream->flags & STREAM_NON_BLOCKING)
		return false;
	if (op->stream != d->legacy)
		return before(d->legacy, op);
	for (const struct stream *s = d->streams; s; s = s->next)
		if (s != d->legacy && !(s->flags & STREAM_NON_BLOCKING) && before(s, op))
			return true;
	return false;
}

// complete takes the first operation off its queue and stream.
static void complete(struct queue *q, struct op *op, bool executed) {
	struct stream *s = op->stream;
	q->head = op->next;
	if (!q->head)
		q->tail = NULL;
	s->oldest = op->following;
	if (!s->oldest)
		s->newest = NULL;
	s->done++;
	s->device->pending--;
	pin(op->dst.block, -1);
	pin(op->src.block, -1);
	if (op->kind == OP_RECORD && executed) {
		op->record->done = true;
		op->record->ns = fc_now();
	}
	if (op->record)
		fc_record_release(op->record);
	free(op);
	fc_progress();
	fc_stream_release(s);
}

// first returns the oldest operation of a queue once it may run, or NULL at the queue's end.
static struct op *first(struct queue *q) {
	while (!q->head && !q->closing) {
		fc_engine_yield(q);
		pthread_cond_wait(&q->work, &fc.lock);
	}
	while (q->head && blocked(q->head) && !q->device->error) {
		fc_engine_yield(q);
		fc_wait();
	}
	return q->head;
}

static void *run(void *argument) {
	struct queue *q = argument;
	prctl(PR_SET_NAME, "fakecuda");
	prctl(PR_SET_TIMERSLACK, 1000); // the default adds 50 us to every sleep
	fc_lock();
	for (struct op *op; (op = first(q)) != NULL;) {
		bool execute = !q->device->error;
		fc_unlock();
		if (execute)
			execute = fc_execute(op);
		fc_lock();
		complete(q, op, execute);
	}
	fc_unlock();
	fc_engine_yield(q);
	pthread_cond_destroy(&q->work);
	free(q);
	return NULL;
}

// A thread takes no signal that is meant for the process, which may be one of Go and expect its own threads; those of a
// fault of its own it takes.
static void start(struct queue *q) {
	sigset_t all, old;
	sigfillset(&all);
	const int own[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		sigdelset(&all, own[i]);
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, 512 << 10);
	pthread_t thread;
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int error = pthread_create(&thread, &attributes, run, q);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attributes);
	if (error)
		fc_bug("no thread for a stream: %d", error);
}

struct queue *fc_queue_new(struct device *d) {
	struct queue *q = calloc(1, sizeof *q);
	if (!q)
		fc_bug("out of memory");
	q->device = d;
	pthread_cond_init(&q->work, NULL);
	start(q);
	return q;
}
