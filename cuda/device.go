// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Device is a GPU. There is one per ordinal and process; it is never closed. Its methods are safe for concurrent use.
//
// Each method makes the device the current one of the thread for the length of the call, so that goroutines, and a
// program that this package is a part of, need not care. Where the thread's former device has no context yet the thread
// stays on this one, because to go back would make one there.
type Device struct {
	ordinal    int
	properties Properties // without what the probe finds

	probe   sync.Once
	can     features
	lacking string // why there are no memory operations
}

// Properties are what a device is and can do.
type Properties struct {
	Name              string // e.g. "NVIDIA H100 80GB HBM3"
	PCIAddress        string // on the PCI bus, in lower case, e.g. "0000:65:00.0"
	Major, Minor      int    // the compute capability
	Multiprocessors   int    // streaming multiprocessors
	CopyEngines       int    // units that copy beside CUDA kernels and each other
	UnifiedAddressing bool   // device and host addresses never overlap
	HostPointers      bool   // registered host memory has the same address on the device
	MemoryOperations  bool   // Commands.Write and Commands.Wait can be run, by Device.Run
	BatchOperations   bool   // several of them are given to the device at once
}

// devices are those that were opened, by ordinal.
var devices struct {
	sync.Mutex
	opened map[int]*Device
}

// Open returns the device with an ordinal, from 0, as cudaSetDevice counts them in this process. It makes no context.
//
// Implements: cudaDeviceGetAttribute, cudaDeviceGetPCIBusId, cuDeviceGetName.
func Open(ordinal int) (*Device, error) {
	n, err := DeviceCount()
	if err != nil {
		return nil, err
	}
	if ordinal < 0 || ordinal >= n {
		return nil, invalidf("device %d: this process sees %d", ordinal, n)
	}
	devices.Lock()
	defer devices.Unlock()
	if d := devices.opened[ordinal]; d != nil {
		return d, nil
	}
	p, r := rawProperties(ordinal)
	if r.code != 0 {
		return nil, failed(r, fmt.Sprintf("of device %d", ordinal))
	}
	p.PCIAddress = strings.ToLower(p.PCIAddress)
	d := &Device{ordinal: ordinal, properties: p}
	if devices.opened == nil {
		devices.opened = map[int]*Device{}
	}
	devices.opened[ordinal] = d
	return d, nil
}

// Ordinal returns the number by which the device was opened.
func (d *Device) Ordinal() int { return d.ordinal }

// PCIAddress returns where the device is, as Properties does, but makes no context.
func (d *Device) PCIAddress() string { return d.properties.PCIAddress }

// Properties returns what the device is and can do. The first call makes the device's context and tries the stream memory
// operations on a stream of its own: that they are there says little about whether they work. As that allocates, it may
// wait for all work of the device; call it before any of that waits for the caller.
//
// Implements: cuStreamWriteValue32_v2, cuStreamWaitValue32_v2, cuStreamBatchMemOp_v2.
func (d *Device) Properties() Properties {
	p, can := d.properties, d.features()
	p.MemoryOperations, p.BatchOperations = can&memoryOperations != 0, can&batches != 0
	return p
}

// features returns which optional functions work on the device.
func (d *Device) features() features {
	d.probe.Do(func() { d.can, d.lacking = d.probeMemoryOperations() })
	return d.can
}

// MemInfo returns how many bytes of the device's memory are free, and how many there are.
//
// Implements: cudaMemGetInfo.
func (d *Device) MemInfo() (free, total int64, err error) {
	free, total, r := rawMemInfo(d.ordinal)
	return free, total, d.failed(r, "")
}

// LastError returns the error by which the device's context was lost ([Error.Sticky]), nil if it is not. Other errors
// are neither returned nor taken away from whom they are meant for.
//
// Implements: cudaMemGetInfo.
func (d *Device) LastError() error {
	err := d.failed(rawLastError(d.ordinal), "")
	var e *Error
	if errors.As(err, &e) && e.Sticky() {
		return err
	}
	return nil
}

// SynchronizeDevice waits until the device has done all that this process gave it.
//
// Implements: cudaDeviceSynchronize.
func (d *Device) SynchronizeDevice() error { return d.failed(rawSynchronizeDevice(d.ordinal), "") }

// CanAccess reports whether the device can reach the memory of another one.
//
// Implements: cudaDeviceCanAccessPeer.
func (d *Device) CanAccess(peer *Device) (bool, error) {
	can, r := rawCanAccess(d.ordinal, peer.ordinal)
	return can, d.failed(r, fmt.Sprintf("of device %d", peer.ordinal))
}

// EnablePeer lets the device reach the memory of another one. That it does already is no error.
//
// Implements: cudaDeviceEnablePeerAccess.
func (d *Device) EnablePeer(peer *Device) error {
	r := rawEnablePeer(d.ordinal, peer.ordinal)
	if r.code == codePeerEnabled {
		return nil
	}
	return d.failed(r, fmt.Sprintf("of device %d", peer.ordinal))
}

// failed returns the error of a call on the device, nil if it had success.
func (d *Device) failed(r result, what string) error {
	if r.code == 0 {
		return nil
	}
	if what != "" {
		what += " "
	}
	return failed(r, fmt.Sprintf("%son device %d", what, d.ordinal))
}
