// SPDX-License-Identifier: Apache-2.0

// Handles of streams and events. A handle is a number that is never given out twice, so that one that is used after it was
// destroyed is found.

#include "fakecuda.h"

#include <stdlib.h>

static struct slot {
	void *object;
	uint32_t age;
	int kind;
} *slots;
static size_t count;

// A handle holds the kind in bits 44 and up, the age of its slot in the 20 bits below, then the slot and 4 bits of 0.
enum { AGE_SHIFT = 24, KIND_SHIFT = 44, AGES = 1 << 20, MOST = 1 << 20 };

static void *encode(enum handle_kind kind, size_t i) {
	return (void *)((uintptr_t)kind << KIND_SHIFT | (uintptr_t)(slots[i].age % AGES) << AGE_SHIFT | i << 4);
}

static struct slot *find(enum handle_kind kind, const void *handle) {
	size_t i = (uintptr_t)handle >> 4 & (MOST - 1);
	if (i >= count || !slots[i].object || slots[i].kind != (int)kind || encode(kind, i) != handle)
		return NULL;
	return &slots[i];
}

static size_t vacant(void) {
	for (size_t i = 0; i < count; i++)
		if (!slots[i].object)
			return i;
	size_t more = count ? 2 * count : 64;
	if (more > MOST)
		fc_bug("more than %d streams and events live", MOST);
	slots = realloc(slots, more * sizeof *slots);
	if (!slots)
		fc_bug("out of memory");
	for (size_t i = count; i < more; i++)
		slots[i] = (struct slot){0};
	size_t first = count;
	count = more;
	return first;
}

void *fc_handle_new(enum handle_kind kind, void *object) {
	size_t i = vacant();
	slots[i].object = object;
	slots[i].kind = (int)kind;
	slots[i].age++;
	return encode(kind, i);
}

void *fc_handle_get(enum handle_kind kind, const void *handle) {
	struct slot *s = find(kind, handle);
	return s ? s->object : NULL;
}

void fc_handle_free(enum handle_kind kind, void *handle) {
	struct slot *s = find(kind, handle);
	if (s)
		s->object = NULL;
}
