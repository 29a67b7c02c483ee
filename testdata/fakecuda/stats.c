// SPDX-License-Identifier: Apache-2.0

// Counters of what the process did, in a file that others can map while it runs.

#include "fakecuda.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t unnamed[COUNTERS];
static uint64_t *counters = unnamed;

// name writes the path with the number of the process for %p, so that processes that inherit it have files of their own.
static void name(const char *path, char *out, size_t size) {
	const char *mark = strstr(path, "%p");
	int n = mark ? snprintf(out, size, "%.*s%d%s", (int)(mark - path), path, (int)getpid(), mark + 2) : snprintf(out, size, "%s", path);
	if (n < 0 || (size_t)n >= size)
		fc_bug("FAKECUDA_STATS=%s is too long", path);
}

// fc_stats_open does not cut the file to nothing first: who has it mapped would fault.
void fc_stats_open(void) {
	const char *given = getenv("FAKECUDA_STATS");
	if (!given || !*given)
		return;
	char path[4096];
	name(given, path, sizeof path);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, sizeof unnamed) != 0)
		fc_bug("FAKECUDA_STATS=%s cannot be written", path);
	void *p = mmap(NULL, sizeof unnamed, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		fc_bug("FAKECUDA_STATS=%s cannot be mapped", path);
	close(fd);
	memset(p, 0, sizeof unnamed);
	counters = p;
}

void fc_count(enum counter c, int64_t n) { __atomic_fetch_add(&counters[c], (uint64_t)n, __ATOMIC_RELAXED); }
