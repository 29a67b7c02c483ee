// SPDX-License-Identifier: Apache-2.0

// What the threads of the queues do with one operation. No lock is held here.

#include "fakecuda.h"

#include <string.h>
#include <time.h>

uint64_t fc_now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void fc_sleep_until(uint64_t ns) {
	struct timespec t = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0) {
	}
}

// fc_random is xorshift; the state is not 0.
uint64_t fc_random(uint64_t *state) {
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static bool on_device(const struct block *b) { return b && (b->kind == DEVICE_MEMORY || b->kind == IPC_MEMORY); }

enum { PIECE = 256 << 10 };

// move copies, and looks after each piece whether the device has failed meanwhile. At a bandwidth a piece comes when it is
// due, not before: what reads too early finds what was there.
static bool move(struct device *d, char *dst, const char *src, size_t n, uint64_t bandwidth, uint64_t *due) {
	for (size_t done = 0; done < n;) {
		size_t piece = n - done < PIECE ? n - done : PIECE;
		if (bandwidth) {
			*due += piece * 1000000000 / bandwidth;
			fc_sleep_until(*due);
		}
		memmove(dst + done, src + done, piece);
		done += piece;
		if (fc_failed(d))
			return false;
	}
	return true;
}

static bool rows(struct op *op, uint64_t bandwidth) {
	uint64_t due = bandwidth ? fc_now() : 0;
	for (size_t y = 0; y < op->height; y++)
		if (!move(op->stream->device, op->dst.at + y * op->dst.pitch, op->src.at + y * op->src.pitch, op->width, bandwidth, &due))
			return false;
	return true;
}

// copy takes the engine of its direction; one between devices takes the one that sends. What stays in one place takes none.
static bool copy(struct op *op) {
	bool from = on_device(op->src.block), to = on_device(op->dst.block);
	if (from == to && (!from || op->src.block->device == op->dst.block->device))
		return rows(op, 0);
	struct device *d = &fc.device[from ? op->src.block->device : op->dst.block->device];
	struct queue *q = op->stream->queue;
	fc_engine_take(&d->engine[from ? TO_HOST : TO_DEVICE], q);
	bool whole = rows(op, fc_config.bandwidth);
	fc_engine_done(q);
	if (from != to) {
		fc_count(from ? COPIES_D2H : COPIES_H2D, 1);
		fc_count(from ? BYTES_D2H : BYTES_H2D, (int64_t)(op->width * op->height));
	}
	return whole;
}

static bool set(struct op *op) {
	memset(op->dst.at, (int)op->value, op->width);
	return true;
}

static uint64_t word(const struct op *op) {
	if (op->bytes == 4)
		return __atomic_load_n((uint32_t *)(void *)op->dst.at, __ATOMIC_ACQUIRE);
	return __atomic_load_n((uint64_t *)(void *)op->dst.at, __ATOMIC_ACQUIRE);
}

static bool reached(const struct op *op) {
	uint64_t now = word(op), all = op->bytes == 4 ? UINT32_MAX : UINT64_MAX;
	switch (op->flags & ~(unsigned)WAIT_FLUSH) {
	case WAIT_EQ:
		return now == op->value;
	case WAIT_AND:
		return (now & op->value) != 0;
	case WAIT_NOR:
		return (~(now | op->value) & all) != 0;
	default: // GEQ, in a circle
		return op->bytes == 4 ? (int32_t)((uint32_t)now - (uint32_t)op->value) >= 0 : (int64_t)(now - op->value) >= 0;
	}
}

static void pause_briefly(void) {
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

// back_off spins for some microseconds, then sleeps, and longer if the wait is long: many streams wait in idle programs.
static void back_off(unsigned round) {
	if (round < 100) {
		pause_briefly();
		return;
	}
	long us = round < 400 ? 20 : round < 1000 ? 50 : 200;
	nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

static bool wait(struct op *op) {
	for (unsigned round = 0; !reached(op); round++) {
		if (fc_failed(op->stream->device))
			return false;
		fc_engine_yield(op->stream->queue);
		back_off(round);
	}
	fc_count(WAITS, 1);
	return true;
}

static bool write(struct op *op) {
	int order = op->flags & WRITE_NO_BARRIER ? __ATOMIC_RELAXED : __ATOMIC_RELEASE;
	// Counted first: who sees the word sees the count.
	fc_count(WRITES, 1);
	if (op->bytes == 4)
		__atomic_store_n((uint32_t *)(void *)op->dst.at, (uint32_t)op->value, order);
	else
		__atomic_store_n((uint64_t *)(void *)op->dst.at, op->value, order);
	return true;
}

static bool execute(struct op *op) {
	switch (op->kind) {
	case OP_COPY:
		return copy(op);
	case OP_SET:
		return set(op);
	case OP_WAIT:
		return wait(op);
	case OP_WRITE:
		return write(op);
	default: // events are the queue's; and a thread needs no fence, as it does one thing after the other
		return true;
	}
}

// fc_execute tells whether the operation was done: it is not once the device has failed.
bool fc_execute(struct op *op) {
	struct device *d = op->stream->device;
	if (fc_config.delay_us) {
		uint64_t us = fc_random(&op->stream->random) % (fc_config.delay_us + 1);
		fc_sleep_until(fc_now() + us * 1000);
	}
	int code = fc_async_fault();
	if (code)
		fc_break(d, code);
	return !fc_failed(d) && execute(op);
}
