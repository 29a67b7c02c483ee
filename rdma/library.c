// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// This file loads libibverbs.

#define _GNU_SOURCE
#include "library.h"

#include <stdio.h>

#if VB_HAVE_VERBS

#include <dlfcn.h>

#define SONAME "libibverbs.so.1"

struct vb_library vb_lib;

// find looks a symbol up by its version. Only glibc's loader knows versions; others give the default one, which is the
// same.
static void *find(void *library, const char *name, const char *version) {
#ifdef __GLIBC__
	return dlvsym(library, name, version);
#else
	(void)version;
	return dlsym(library, name);
#endif
}

int vb_load(char *missing, int size) {
	// Local: nothing else shall bind to it. It is never unloaded.
	void *library = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		const char *why = dlerror();
		snprintf(missing, size, "%s", why ? why : SONAME ": cannot be loaded");
		return 1;
	}
#define LOAD(name, version) LOAD_AS(name, "ibv_" #name, version)
#define LOAD_AS(member, symbol, version) \
	if (!(vb_lib.member = find(library, symbol, version))) { \
		snprintf(missing, size, SONAME " has no %s@%s", symbol, version); \
		return 1; \
	}
	VB_REQUIRED(LOAD)
	LOAD_AS(query_port, "ibv_query_port", "IBVERBS_1.1")
	vb_lib.reg_mr_iova2 = find(library, "ibv_reg_mr_iova2", "IBVERBS_1.8");
	vb_lib.reg_dmabuf_mr = find(library, "ibv_reg_dmabuf_mr", "IBVERBS_1.12");
	return 0;
}

int vb_has_dmabuf(void) { return vb_lib.reg_dmabuf_mr != NULL; }

#else

int vb_load(char *missing, int size) {
	snprintf(missing, size, "built without rdma-core's infiniband/verbs.h");
	return 1;
}

int vb_has_dmabuf(void) { return 0; }

#endif
