// SPDX-License-Identifier: Apache-2.0

// Copy engines: each device has one for each direction, and the copies of its queues take turns.

#include "fakecuda.h"

// fc_engine_take waits for the queue's turn. Who came first is first. A greedy queue may have kept the engine.
void fc_engine_take(struct engine *e, struct queue *q) {
	if (q->kept == e)
		return;
	fc_engine_yield(q);
	pthread_mutex_lock(&e->lock);
	for (uint64_t mine = e->tickets++; mine != e->turn;)
		pthread_cond_wait(&e->next, &e->lock);
	pthread_mutex_unlock(&e->lock);
	q->kept = e;
}

// fc_engine_done ends a copy.
void fc_engine_done(struct queue *q) {
	if (!fc_config.greedy)
		fc_engine_yield(q);
}

// fc_engine_yield lets the others have the engine that the queue has kept: it has no copy ready.
void fc_engine_yield(struct queue *q) {
	struct engine *e = q->kept;
	if (!e)
		return;
	q->kept = NULL;
	pthread_mutex_lock(&e->lock);
	e->turn++;
	pthread_cond_broadcast(&e->next);
	pthread_mutex_unlock(&e->lock);
}
