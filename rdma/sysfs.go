// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"bufio"
	"bytes"
	"io/fs"
	"strconv"
	"strings"
)

// What the kernel tells about devices in sysfs. The file systems are /sys and /dev, or a test's.

// sysDevice is where a device's files are in /sys.
func sysDevice(device string) string { return "class/infiniband/" + device }

func sysPort(device string, port int) string {
	return sysDevice(device) + "/ports/" + strconv.Itoa(port)
}

// readLine returns the only line of a file, empty if it cannot be read, as entries of gid_attrs that are not in use.
func readLine(sys fs.FS, path string) string {
	b, err := fs.ReadFile(sys, path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// deviceInfo collects what sysfs has on a device; software devices have no PCI device.
func deviceInfo(sys fs.FS, device string) DeviceInfo {
	info := DeviceInfo{Name: device, NUMANode: -1}
	if n, err := strconv.Atoi(readLine(sys, sysDevice(device)+"/device/numa_node")); err == nil {
		info.NUMANode = max(n, -1)
	}
	if b, err := fs.ReadFile(sys, sysDevice(device)+"/device/uevent"); err == nil {
		for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
			if address, ok := strings.CutPrefix(lines.Text(), "PCI_SLOT_NAME="); ok {
				info.PCI = address
			}
		}
	}
	if ports, err := fs.ReadDir(sys, sysDevice(device)+"/ports"); err == nil {
		info.Ports = len(ports)
	}
	return info
}

// portRate returns the rate of a port in Gbit/s, 0 if it is not known. The file has e.g. "100 Gb/sec (4X EDR)".
func portRate(sys fs.FS, device string, port int) float64 {
	number, _, _ := strings.Cut(readLine(sys, sysPort(device, port)+"/rate"), " ")
	rate, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0
	}
	return rate
}

// gidAttributes returns the type and the network device of an entry of the GID table. The kernel has one word for
// InfiniBand and the first version of RoCE; the link layer tells them apart.
func gidAttributes(sys fs.FS, device string, port, index int, link LinkLayer) (GIDType, string) {
	attrs := sysPort(device, port) + "/gid_attrs/"
	dev := readLine(sys, attrs+"ndevs/"+strconv.Itoa(index))
	switch text := readLine(sys, attrs+"types/"+strconv.Itoa(index)); {
	case link != Ethernet:
		return GIDInfiniBand, dev
	case text == "RoCE v2":
		return GIDRoCEv2, dev
	case text == "IB/RoCE v1":
		return GIDRoCEv1, dev
	}
	return GIDUnknown, dev
}

// noDevice says why libibverbs has no device to show: the kernel has none, or their nodes are not in this container.
func noDevice(sys, dev fs.FS) string {
	devices, err := fs.ReadDir(sys, "class/infiniband")
	if err != nil || len(devices) == 0 {
		return "no RDMA device (is the kernel module loaded?)"
	}
	names := make([]string, len(devices))
	for i, d := range devices {
		names[i] = d.Name()
	}
	text := "no RDMA device that this process can see: the kernel has " + strings.Join(names, ", ")
	if nodes, err := fs.Glob(dev, "infiniband/uverbs*"); err == nil && len(nodes) == 0 {
		return text + ", but there is no /dev/infiniband/uverbs* (is the module ib_uverbs loaded, and the node in this container?)"
	}
	return text + " (is the device's provider of rdma-core installed?)"
}
