// SPDX-License-Identifier: Apache-2.0

// The start: the environment, what every call does first, and processes that were forked.

#include "fakecuda.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct state fc = {.lock = PTHREAD_MUTEX_INITIALIZER, .progress = PTHREAD_COND_INITIALIZER};
struct config fc_config;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static volatile bool forked;

static uint64_t number(const char *name, uint64_t otherwise) {
	const char *text = getenv(name);
	if (!text || !*text)
		return otherwise;
	char *end;
	uint64_t n = strtoull(text, &end, 10);
	if (*end)
		fc_bug("%s=%s is not a number", name, text);
	return n;
}

static int small(const char *name, uint64_t otherwise, uint64_t most) {
	uint64_t n = number(name, otherwise);
	if (n > most)
		fc_bug("%s is more than %d", name, (int)most);
	return (int)n;
}

static void in_child(void) { forked = true; }

static void start(void) {
	fc_config = (struct config){
		.devices = small("FAKECUDA_DEVICES", 1, MAX_DEVICES),
		.queues = small("FAKECUDA_QUEUES", 0, 64),
		.version = small("FAKECUDA_VERSION", 12080, 99999),
		.seed = number("FAKECUDA_SEED", 1),
		.delay_us = number("FAKECUDA_DELAY_US", 0),
		.bandwidth = number("FAKECUDA_BANDWIDTH", 0) * 1000000,
		.memory = number("FAKECUDA_MEMORY_MB", 65536) << 20,
		.no_memops = number("FAKECUDA_NO_MEMOPS", 0),
		.no_batch = number("FAKECUDA_NO_BATCH", 0),
		.strict = number("FAKECUDA_STRICT", 0),
		.host_offset = number("FAKECUDA_HOST_OFFSET", 0),
		.malloc_syncs = number("FAKECUDA_MALLOC_SYNCS", 0),
		.capturing = number("FAKECUDA_CAPTURING", 0),
		.capture = number("FAKECUDA_CAPTURE", 0),
		.greedy = number("FAKECUDA_GREEDY", 0),
	};
	fc_faults_parse();
	fc_stats_open();
	for (int i = 0; i < fc_config.devices; i++) {
		struct device *d = &fc.device[i];
		d->ordinal = i;
		pthread_mutex_init(&d->issue, NULL);
		for (int e = 0; e < DIRECTIONS; e++)
			d->engine[e] = (struct engine){.lock = PTHREAD_MUTEX_INITIALIZER, .next = PTHREAD_COND_INITIALIZER};
	}
	pthread_atfork(NULL, NULL, in_child);
}

// enter is what all functions have in common. In a child of fork nothing may be touched: a lock may be held by a thread
// that the child does not have.
static int enter(const char *call) {
	if (forked)
		return INITIALIZATION_ERROR;
	pthread_once(&once, start);
	fc_count(CALLS_TOTAL, 1);
	return fc_fault(call);
}

void fc_enter_only(const char *call) { (void)enter(call); }

int fc_enter(const char *call) { return fc_fail(enter(call)); }

int fc_enter_driver(const char *call) { return enter(call); }

int fc_enter_device(const char *call) {
	int error = enter(call);
	if (!error && fc_config.devices == 0)
		error = NO_DEVICE;
	if (!error) {
		fc_bind();
		error = fc_failed(fc_current());
	}
	if (!error && fc_unsafe(call))
		error = CAPTURE_UNSUPPORTED;
	return fc_fail(error);
}

void fc_bug(const char *format, ...) {
	va_list arguments;
	va_start(arguments, format);
	char text[512];
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	fprintf(stderr, "fakecuda: %s\n", text);
	abort();
}
