// SPDX-License-Identifier: Apache-2.0

// Faults on demand: FAKECUDA_FAIL="call:n:code,..." lets the n-th call of a function return a code, and "async" the n-th
// operation of a stream fail while it runs.

#include "fakecuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rule {
	char call[64];
	uint64_t nth, calls;
	int code;
} rules[32];
static int count;

void fc_faults_parse(void) {
	const char *text = getenv("FAKECUDA_FAIL");
	while (text && *text) {
		if (count == (int)(sizeof rules / sizeof *rules))
			fc_bug("FAKECUDA_FAIL has too many rules");
		struct rule *r = &rules[count++];
		unsigned long long nth;
		int used = 0;
		if (sscanf(text, "%63[A-Za-z0-9_]:%llu:%d%n", r->call, &nth, &r->code, &used) != 3 || nth == 0)
			fc_bug("FAKECUDA_FAIL=%s is not call:n:code", text);
		r->nth = nth;
		text += used;
		if (*text == ',')
			text++;
		else if (*text)
			fc_bug("FAKECUDA_FAIL ends with %s", text);
	}
}

// fc_fault counts a call, and returns the code that it shall return, or 0. Each rule counts by itself.
int fc_fault(const char *call) {
	int code = 0;
	for (int i = 0; i < count; i++) {
		struct rule *r = &rules[i];
		if (strcmp(r->call, call) == 0 && __atomic_add_fetch(&r->calls, 1, __ATOMIC_RELAXED) == r->nth)
			code = r->code;
	}
	return code;
}

int fc_async_fault(void) { return fc_fault("async"); }
