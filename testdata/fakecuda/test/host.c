// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "check.h"

#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

static char *pages(int n) {
	char *p = mmap(0, (size_t)n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	return p;
}

static void registered(void) {
	char *p = pages(4);
	EQUAL(cudaHostUnregister(p), HOST_NOT_REGISTERED);
	OK(cudaHostRegister(p + 100, PAGE, HOST_PORTABLE | HOST_MAPPED));
	EQUAL(counter(REGISTRATIONS_LIVE), 1);
	EQUAL(cudaHostRegister(p, 4 * PAGE, 0), HOST_ALREADY_REGISTERED);
	EQUAL(cudaHostRegister(p, 50, 0), HOST_ALREADY_REGISTERED); // the same page
	EQUAL(cudaHostRegister(p + PAGE + 200, 1, 0), HOST_ALREADY_REGISTERED);
	OK(cudaHostRegister(p + 2 * PAGE, PAGE, HOST_PORTABLE | HOST_MAPPED));
	EQUAL(cudaHostUnregister(p), HOST_NOT_REGISTERED); // it begins elsewhere
	OK(cudaHostUnregister(p + 100));
	EQUAL(cudaHostUnregister(p + 100), HOST_NOT_REGISTERED);
	OK(cudaHostUnregister(p + 2 * PAGE));
	EQUAL(counter(REGISTRATIONS_LIVE), 0);
}

static void refused(void) {
	char *p = pages(3), *device = device_memory(PAGE);
	EQUAL(cudaHostRegister(p, 0, 0), INVALID_VALUE);
	EQUAL(cudaHostRegister(0, PAGE, 0), INVALID_VALUE);
	EQUAL(cudaHostRegister(p, PAGE, 64), INVALID_VALUE);
	EQUAL(cudaHostRegister(device, PAGE, 0), INVALID_VALUE);
	munmap(p + PAGE, PAGE);
	EQUAL(cudaHostRegister(p, 2 * PAGE, 0), INVALID_VALUE);
	void *host = host_memory(PAGE), *at;
	EQUAL(cudaHostUnregister(host), HOST_NOT_REGISTERED);
	EQUAL(cudaHostRegister(host, PAGE, 0), HOST_ALREADY_REGISTERED);
	EQUAL(cudaHostGetDevicePointer(&at, p, 0), INVALID_VALUE);
	OK(cudaHostRegister(p, PAGE, 0));
	EQUAL(cudaHostGetDevicePointer(&at, p, 0), INVALID_VALUE); // not mapped
	EQUAL(cudaFreeHost(p), INVALID_VALUE);
	OK(cudaFreeHost(host));
	EQUAL(cudaFreeHost(host), INVALID_VALUE);
}

static void in_use(void) {
	struct words w = words();
	char *p = pages(1);
	OK(cudaHostRegister(p, PAGE, HOST_MAPPED));
	gate(0, w, 0);
	OK(cudaMemcpyAsync(device_memory(PAGE), p, PAGE, COPY_HOST_TO_DEVICE, 0));
	cudaHostUnregister(p);
}

static void after_use(void) {
	char *p = pages(1);
	OK(cudaHostRegister(p, PAGE, HOST_MAPPED));
	OK(cudaMemcpyAsync(device_memory(PAGE), p, PAGE, COPY_HOST_TO_DEVICE, 0));
	OK(cudaStreamSynchronize(0));
	OK(cudaHostUnregister(p));
}

static void freed_in_use(void) {
	struct words w = words();
	gate(0, w, 0);
	cudaFreeHost(w.host);
}

static void same_address(void) {
	int same = -1;
	OK(cudaDeviceGetAttribute(&same, 91, 0));
	EQUAL(same, 1);
	struct words w = words();
	EQUAL(w.device, (CUdeviceptr)w.host);
}

// Where the addresses differ, a word must be given as the device's, and a copy takes both.
static void other_address(void) {
	int same = -1;
	OK(cudaDeviceGetAttribute(&same, 91, 0));
	EQUAL(same, 0);
	struct words w = words();
	CHECK(w.device != (CUdeviceptr)w.host);
	EQUAL(cuStreamWriteValue32_v2(0, (CUdeviceptr)w.host, 1, 0), INVALID_VALUE);
	OK(cuStreamWriteValue32_v2(0, w.device, 7, 0));
	OK(cudaStreamSynchronize(0));
	EQUAL(load(w.host), 7);
	void *on = device_memory(4);
	OK(cudaMemcpy(on, w.host, 4, COPY_HOST_TO_DEVICE));
	OK(cudaMemcpy((char *)w.device + 4, on, 4, COPY_DEVICE_TO_HOST));
	EQUAL(w.host[1], 7);
	EQUAL(counter(COPIES_PAGEABLE), 0);
	struct cudaPointerAttributes a;
	OK(cudaPointerGetAttributes(&a, (char *)w.device + 4));
	EQUAL(a.type, POINTER_HOST);
	CHECK(a.hostPointer == w.host + 1 && a.devicePointer == (char *)w.device + 4);
}

const struct test host_tests[] = {
	{"host/registered", 0, registered, 0},
	{"host/refused", 0, refused, 0},
	{"host/in use", 0, in_use, "cudaHostUnregister of host memory"},
	{"host/after use", 0, after_use, 0},
	{"host/freed in use", 0, freed_in_use, "cudaFreeHost of host memory"},
	{"host/same address", 0, same_address, 0},
	{"host/other address", "FAKECUDA_HOST_OFFSET=1", other_address, 0},
	{0},
};
