// SPDX-License-Identifier: Apache-2.0

//go:build nvml && cgo && linux

package nvml

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// needed are the functions that list cannot do without. The call of one that is not there would end the process.
func needed() []string {
	return []string{
		"nvmlInit_v2", "nvmlShutdown", "nvmlErrorString", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2",
		"nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo_v3",
	}
}

// calls guards the state of go-nvml, which is the process's.
var calls sync.Mutex

// list lists the GPUs by the library of a name or path. A process can use one library only: the loader binds each function
// once.
func list(library string) (gpus []GPU, err error) {
	calls.Lock()
	defer calls.Unlock()
	if err := examine(library); err != nil {
		return nil, err
	}
	l := nvml.New(nvml.WithLibraryPath(library))
	switch r := l.Init(); r {
	case nvml.SUCCESS:
	case nvml.ERROR_DRIVER_NOT_LOADED, nvml.ERROR_LIBRARY_NOT_FOUND:
		return nil, unsupported("%s: %v", library, r)
	default:
		return nil, failed("nvmlInit", r)
	}
	defer func() {
		if r := l.Shutdown(); r != nvml.SUCCESS && err == nil {
			gpus, err = nil, failed("nvmlShutdown", r)
		}
	}()
	count, r := l.DeviceGetCount()
	if r != nvml.SUCCESS {
		return nil, failed("nvmlDeviceGetCount", r)
	}
	for i := range count {
		device, r := l.DeviceGetHandleByIndex(i)
		if r == nvml.ERROR_NO_PERMISSION {
			continue // it is counted nevertheless
		}
		if r != nvml.SUCCESS {
			return nil, failed(fmt.Sprintf("nvmlDeviceGetHandleByIndex(%d)", i), r)
		}
		g, err := describe(l, device, i)
		if err != nil {
			return nil, err
		}
		gpus = append(gpus, g)
	}
	return gpus, nil
}

// examine says whether the library is there and has what is needed.
func examine(library string) (err error) {
	handle := dl.New(library, dl.RTLD_LAZY|dl.RTLD_LOCAL)
	if err := handle.Open(); err != nil {
		return unsupported("NVIDIA's management library is not there (it comes with the driver): %v", err)
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	for _, name := range needed() {
		if err := handle.Lookup(name); err != nil {
			return unsupported("%s has no function %s: %v", library, name, err)
		}
	}
	return nil
}

func failed(call string, r nvml.Return) error { return fmt.Errorf("nvml: %s: %w", call, r) }

func describe(l nvml.Interface, device nvml.Device, index int) (GPU, error) {
	g := GPU{Index: index}
	var r nvml.Return
	if g.Name, r = device.GetName(); r != nvml.SUCCESS {
		return g, failed(fmt.Sprintf("nvmlDeviceGetName of GPU %d", index), r)
	}
	if g.UUID, r = device.GetUUID(); r != nvml.SUCCESS {
		return g, failed(fmt.Sprintf("nvmlDeviceGetUUID of GPU %d", index), r)
	}
	pci, r := device.GetPciInfo()
	if r != nvml.SUCCESS {
		return g, failed(fmt.Sprintf("nvmlDeviceGetPciInfo of GPU %d", index), r)
	}
	g.PCIAddress = address(pci)
	has := func(name string) bool { return l.Extensions().LookupSymbol(name) == nil }
	if has("nvmlDeviceGetNvLinkState") && has("nvmlDeviceGetNvLinkRemotePciInfo_v2") {
		g.NVLinks = peers(device)
	}
	if has("nvmlDeviceGetMaxPcieLinkGeneration") {
		g.PCIeGeneration = known(device.GetMaxPcieLinkGeneration())
	}
	if has("nvmlDeviceGetMaxPcieLinkWidth") {
		g.PCIeWidth = known(device.GetMaxPcieLinkWidth())
	}
	return g, nil
}

// address writes a PCI address as sysfs does; GPUs are function 0.
func address(pci nvml.PciInfo) string {
	return fmt.Sprintf("%04x:%02x:%02x.0", pci.Domain, pci.Bus, pci.Device)
}

func known(n int, r nvml.Return) int {
	if r != nvml.SUCCESS {
		return 0
	}
	return n
}

// peers returns what a GPU's active links lead to. A GPU without NVLink says so at the first link.
func peers(device nvml.Device) (addresses []string) {
	for link := range nvml.NVLINK_MAX_LINKS {
		state, r := device.GetNvLinkState(link)
		if r == nvml.ERROR_NOT_SUPPORTED {
			break
		}
		if r != nvml.SUCCESS || state != nvml.FEATURE_ENABLED {
			continue // a link that is off, or a number that this model lacks
		}
		pci, r := device.GetNvLinkRemotePciInfo(link)
		if r == nvml.SUCCESS && !slices.Contains(addresses, address(pci)) {
			addresses = append(addresses, address(pci))
		}
	}
	return addresses
}
