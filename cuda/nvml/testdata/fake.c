// SPDX-License-Identifier: Apache-2.0

// A library with NVML's functions that package nvml uses, and three GPUs, of which the first two have NVLinks to each
// other. Macros: COUNT GPUs; INIT, HANDLE, NAME, SHUTDOWN: what these calls return; CLOSED: the GPU that may not be used; OLD:
// without what is optional; POOR: without what is not.

#include <stdio.h>
#include <string.h>

#ifndef COUNT
#define COUNT 3
#endif
#ifndef INIT
#define INIT 0
#endif
#ifndef HANDLE
#define HANDLE 0
#endif
#ifndef CLOSED
#define CLOSED -1
#endif
#ifndef NAME
#define NAME 0
#endif
#ifndef SHUTDOWN
#define SHUTDOWN 0
#endif

enum { invalid_argument = 2, not_supported = 3, no_permission = 4 };

typedef struct {
	char bus_id_legacy[16];
	unsigned domain, bus, device, device_id, subsystem_id;
	char bus_id[32];
} pci_info;

int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return SHUTDOWN; }

#ifndef POOR
static const pci_info pci[] = {
	{.domain = 0, .bus = 0x65, .bus_id = "00000000:65:00.0"},
	{.domain = 0, .bus = 0xca, .bus_id = "00000000:CA:00.0"},
	{.domain = 0x10000, .bus = 0x01, .bus_id = "00010000:01:00.0"},
};

// A handle is the address of a GPU's row.
static int number(const pci_info *gpu) { return gpu - pci; }

const char *nvmlErrorString(int code)
{
	static char text[32];
	snprintf(text, sizeof text, "code %d", code);
	return text;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
	*count = COUNT;
	return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, const pci_info **gpu)
{
	*gpu = &pci[index];
	return index == CLOSED ? no_permission : HANDLE;
}

int nvmlDeviceGetName(const pci_info *gpu, char *name, unsigned bytes)
{
	snprintf(name, bytes, "Fake A100");
	return NAME;
}

int nvmlDeviceGetUUID(const pci_info *gpu, char *uuid, unsigned bytes)
{
	snprintf(uuid, bytes, "GPU-%d", number(gpu));
	return 0;
}

int nvmlDeviceGetPciInfo_v3(const pci_info *gpu, pci_info *out)
{
	*out = *gpu;
	return 0;
}
#endif

#if !defined OLD && !defined POOR
// Link 1 is off, 0 and 2 to 4 are on.
int nvmlDeviceGetNvLinkState(const pci_info *gpu, unsigned link, unsigned *on)
{
	if (number(gpu) == 2)
		return not_supported;
	*on = link != 1;
	return link < 5 ? 0 : invalid_argument;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(const pci_info *gpu, unsigned link, pci_info *out)
{
	*out = pci[1 - number(gpu)];
	if (link == 1)
		out->bus = 0xff;
	return 0;
}

int nvmlDeviceGetMaxPcieLinkGeneration(const pci_info *gpu, unsigned *generation)
{
	*generation = 4;
	return number(gpu) == 2 ? not_supported : 0;
}

int nvmlDeviceGetMaxPcieLinkWidth(const pci_info *gpu, unsigned *lanes)
{
	*lanes = 16;
	return number(gpu) == 2 ? not_supported : 0;
}
#endif
