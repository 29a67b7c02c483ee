// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// load loads libibverbs once and returns what is missing.
var load = sync.OnceValue(func() error {
	if what := rawLoad(); what != "" {
		return notSupported{what}
	}
	return nil
})

// Available returns nil if RDMA can be used: libibverbs is there and shows a device to this process. Otherwise the
// error wraps ErrNotSupported and says what is missing.
func Available() error {
	names, err := deviceNames()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return notSupported{noDevice(os.DirFS("/sys"), os.DirFS("/dev"))}
	}
	return nil
}

// Library describes the library and the devices in one line, e.g. "libibverbs.so.1 loaded, 2 devices", or says what is
// missing.
func Library() string {
	names, err := deviceNames()
	var lacks notSupported
	switch {
	case errors.As(err, &lacks):
		return lacks.missing
	case err != nil:
		return err.Error()
	case len(names) == 0:
		return "libibverbs.so.1 loaded, " + noDevice(os.DirFS("/sys"), os.DirFS("/dev"))
	case len(names) == 1:
		return "libibverbs.so.1 loaded, 1 device"
	}
	return fmt.Sprintf("libibverbs.so.1 loaded, %d devices", len(names))
}

// deviceNames lists the devices that this process can see.
//
// Implements: ibv_get_device_list, ibv_get_device_name, ibv_free_device_list.
func deviceNames() ([]string, error) {
	if err := load(); err != nil {
		return nil, err
	}
	names, errno := rawDevices()
	if errno == syscall.ENOSYS { // how the library says that the kernel has no RDMA
		return nil, nil
	}
	return names, failed(errno, "ibv_get_device_list", "")
}

// DeviceInfo describes a device that need not be opened.
type DeviceInfo struct {
	Name     string // e.g. "mlx5_0"
	PCI      string // address on the PCI bus, e.g. "0000:3b:00.0"; empty for a software device
	NUMANode int    // the NUMA node that it is attached to, -1 if not known
	Ports    int    // number of ports, which are numbered from 1; 0 if not known
}

// Devices lists the devices that this process can see, that is whose node in /dev/infiniband is there, in the order of
// libibverbs. There may be none. PCI address, NUMA node and ports are the kernel's (/sys/class/infiniband).
func Devices() ([]DeviceInfo, error) {
	names, err := deviceNames()
	if err != nil {
		return nil, err
	}
	infos := make([]DeviceInfo, len(names))
	for i, name := range names {
		infos[i] = deviceInfo(os.DirFS("/sys"), name)
	}
	return infos, nil
}

// Device is an opened device.
type Device struct {
	object
	fd int // of the asynchronous events
}

// Open opens a device by its name. It may be opened more than once; the objects of one opening do not go with those of
// another.
//
// Implements: ibv_open_device.
func Open(name string) (*Device, error) {
	if err := load(); err != nil {
		return nil, err
	}
	d := &Device{}
	err := d.create(kindDevice, name, func() (h handle, err error) {
		var errno syscall.Errno
		if h, d.fd, errno = rawOpen(name); errno == syscall.ENODEV {
			return 0, &Error{Verb: "ibv_open_device", What: "of " + name, Errno: errno, Detail: "libibverbs does not list it"}
		}
		return h, failed(errno, "ibv_open_device", "of "+name)
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Name returns the name by which the device was opened.
func (d *Device) Name() string { return d.device }

// Close closes the device when all that was made of it is closed. See the package's comment.
//
// Implements: ibv_close_device.
func (d *Device) Close() error { return d.close() }

// DeviceAttr is what a device can do.
type DeviceAttr struct {
	Firmware     string // its version
	NodeGUID     uint64 // of the device, in host order
	VendorID     uint32 // as the IEEE assigned it
	VendorPartID uint32 // the vendor's
	MaxQP        int    // queue pairs
	MaxQPWR      int    // outstanding work requests of a send or receive queue
	MaxSGE       int    // pieces of memory in a work request
	MaxCQ        int    // completion queues
	MaxCQE       int    // entries of a completion queue
	MaxMR        int    // registered memory regions
	MaxMRSize    uint64 // bytes of one
	MaxPD        int    // protection domains
	MaxRDAtomic  int    // RDMA reads and atomics that a QP can answer at a time
	Ports        int    // ports, which are numbered from 1
}

// Attributes asks the device what it can do. The limits are of the whole device and upper bounds.
//
// Implements: ibv_query_device.
func (d *Device) Attributes() (a DeviceAttr, err error) {
	err = d.with(func() error {
		var errno syscall.Errno
		a, errno = rawDeviceAttr(d.handle)
		return d.failed(errno, "ibv_query_device", "")
	})
	return a, err
}
