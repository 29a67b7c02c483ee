// SPDX-License-Identifier: Apache-2.0

// Devices: the current one of a thread, attributes, peers, and what waits for all work of one.

#include "fakecuda.h"

#include <stdio.h>
#include <string.h>

static __thread int current;
static __thread bool bound;

int fc_current_ordinal(void) { return current; }

struct device *fc_current(void) { return &fc.device[current]; }

void fc_bind(void) { bound = true; }

static bool exists(int device) { return device >= 0 && device < fc_config.devices; }

// fc_enter_driver_device fails where no context is current. The driver does not make one current by itself: a thread
// has one after a call of the runtime that needs it, cudaSetDevice among them, and cudaGetDevice is none of those.
int fc_enter_driver_device(const char *call) {
	int error = fc_enter_driver(call);
	if (error)
		return error;
	return bound ? fc_failed(fc_current()) : INVALID_CONTEXT;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
	ENTER();
	*version = fc_config.version;
	return SUCCESS;
}

cudaError_t cudaDriverGetVersion(int *version) {
	ENTER();
	*version = fc_config.version;
	return SUCCESS;
}

int cuDriverGetVersion(int *version) {
	ENTER_DRIVER();
	*version = fc_config.version;
	return SUCCESS;
}

int cuInit(unsigned flags) {
	ENTER_DRIVER();
	if (flags)
		return INVALID_VALUE;
	return fc_config.devices ? SUCCESS : NO_DEVICE;
}

cudaError_t cudaGetDeviceCount(int *count) {
	ENTER();
	*count = fc_config.devices;
	return *count ? SUCCESS : fc_fail(NO_DEVICE);
}

cudaError_t cudaGetDevice(int *device) {
	ENTER();
	if (!fc_config.devices)
		return fc_fail(NO_DEVICE);
	*device = current;
	return SUCCESS;
}

// cudaSetDevice makes a device current even if it has failed, so that a caller that puts back what was current gets there.
cudaError_t cudaSetDevice(int device) {
	ENTER();
	if (!exists(device))
		return fc_fail(fc_config.devices ? INVALID_DEVICE : NO_DEVICE);
	current = device;
	bound = true;
	return fc_fail(fc_failed(fc_current()));
}

// The bus numbers contain letters, which CUDA writes in upper case and sysfs in lower case.
static int bus(int device) { return (0x1a + 0x11 * device) & 0xff; }

static int attribute(int which, int device) {
	switch (which) {
	case 16: // multiprocessors
		return 132;
	case 33:
		return bus(device);
	case 40: // copy engines
		return 2;
	case 41: // unified addressing
		return 1;
	case 75:
		return 9;
	case 91: // the host's address of registered memory is the device's too
		return !fc_config.host_offset;
	case 92: // memory operations, of 64 bits, and NOR: before and since version 2
	case 93:
	case 94:
	case 122:
	case 123:
		return !fc_config.no_memops;
	case 99: // host memory can be registered
		return 1;
	default: // among them integrated (18), the PCI device (34) and domain (50), and the minor version (76)
		return 0;
	}
}

static int get_attribute(int *value, int which, int device) {
	if (!exists(device))
		return INVALID_DEVICE;
	if (which < 1 || which > 200)
		return INVALID_VALUE;
	*value = attribute(which, device);
	return SUCCESS;
}

cudaError_t cudaDeviceGetAttribute(int *value, int which, int device) {
	ENTER();
	return fc_fail(get_attribute(value, which, device));
}

int cuDeviceGetAttribute(int *value, int which, int device) {
	ENTER_DRIVER();
	return get_attribute(value, which, device);
}

int cuDeviceGetName(char *name, int size, int device) {
	ENTER_DRIVER();
	if (!exists(device))
		return INVALID_DEVICE;
	if (!name || size <= 0)
		return INVALID_VALUE;
	snprintf(name, (size_t)size, "Fake GPU");
	return SUCCESS;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int device) {
	ENTER();
	if (!exists(device))
		return fc_fail(INVALID_DEVICE);
	if (!id || size < (int)sizeof "0000:1A:00.0")
		return fc_fail(INVALID_VALUE);
	snprintf(id, (size_t)size, "0000:%02X:00.0", bus(device));
	return SUCCESS;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
	ENTER_DEVICE();
	if (least)
		*least = 0;
	if (greatest)
		*greatest = -5;
	return SUCCESS;
}

cudaError_t cudaDeviceSynchronize(void) {
	ENTER_DEVICE();
	struct device *d = fc_current();
	fc_lock();
	// What other threads issue meanwhile is not waited for, as their streams may never be idle.
	uint64_t until = d->issued;
	for (bool busy = true; busy && !d->error;) {
		busy = false;
		for (struct stream *s = d->streams; s; s = s->next)
			busy |= s->oldest && s->oldest->number <= until;
		if (busy)
			fc_wait();
	}
	int error = d->error;
	fc_unlock();
	return fc_fail(error);
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
	ENTER();
	if (!exists(device) || !exists(peer))
		return fc_fail(INVALID_DEVICE);
	*can = device != peer;
	return SUCCESS;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
	ENTER_DEVICE();
	if (flags)
		return fc_fail(INVALID_VALUE);
	if (!exists(peer) || peer == current)
		return fc_fail(INVALID_DEVICE);
	fc_lock();
	bool *enabled = &fc_current()->peers[peer];
	int error = *enabled ? PEER_ALREADY_ENABLED : SUCCESS;
	*enabled = true;
	fc_unlock();
	return fc_fail(error);
}

void fc_lock(void) { pthread_mutex_lock(&fc.lock); }

void fc_unlock(void) { pthread_mutex_unlock(&fc.lock); }

void fc_wait(void) {
	fc.waiters++;
	pthread_cond_wait(&fc.progress, &fc.lock);
	fc.waiters--;
}

void fc_progress(void) {
	if (fc.waiters)
		pthread_cond_broadcast(&fc.progress);
}

void fc_lock_issue(struct device *d) {
	pthread_mutex_lock(&d->issue);
	fc_lock();
}

void fc_unlock_issue(struct device *d) {
	fc_unlock();
	pthread_mutex_unlock(&d->issue);
}

// fc_drain waits for all work of a device; its issue lock is held, so that there is no more of it.
void fc_drain(struct device *d) {
	while (d->pending && !d->error)
		fc_wait();
}
