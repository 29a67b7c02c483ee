// SPDX-License-Identifier: Apache-2.0

// Counters of what the process did, in a file that others can map while it runs.

#include "fakecuda.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t unnamed[COUNTERS];
static uint64_t *counters = unnamed;

void fc_stats_open(void) {
	const char *path = getenv("FAKECUDA_STATS");
	if (!path || !*path)
		return;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, sizeof unnamed) != 0)
		fc_bug("FAKECUDA_STATS=%s cannot be written", path);
	void *p = mmap(NULL, sizeof unnamed, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		fc_bug("FAKECUDA_STATS=%s cannot be mapped", path);
	close(fd);
	counters = p;
}

void fc_count(enum counter c, int64_t n) { __atomic_fetch_add(&counters[c], (uint64_t)n, __ATOMIC_RELAXED); }
