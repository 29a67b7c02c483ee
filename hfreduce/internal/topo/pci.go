// SPDX-License-Identifier: Apache-2.0

package topo

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// device is a PCI device.
type device struct {
	node int
	path []string // from the host bridge to the device: "pci0000:60", the addresses of the bridges, its own; nil if not known
}

var (
	busAddress = regexp.MustCompile(`^([0-9a-f]+):([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$`)
	hostBridge = regexp.MustCompile(`^pci[0-9a-f]{4,8}:[0-9a-f]{2}$`)
)

func readPCI(sys fs.FS) map[string]device {
	const root = "bus/pci/devices"
	devices := map[string]device{}
	entries, _ := fs.ReadDir(sys, root) // none: no PCI
	for _, e := range entries {
		d := device{node: readNode(sys, root+"/"+e.Name()+"/numa_node")}
		if target, err := fs.ReadLink(sys, root+"/"+e.Name()); err == nil {
			d.path = bridges(target)
		}
		devices[Address(e.Name())] = d
	}
	return devices
}

// bridges returns the part of a device's path in sysfs that begins at its host bridge, nil if it has none. Of several host
// bridges, as a controller behind a PCI device makes one, the last is the device's.
func bridges(path string) []string {
	parts := strings.Split(path, "/")
	for i := len(parts) - 1; i >= 0; i-- {
		if hostBridge.MatchString(parts[i]) {
			return parts[i:]
		}
	}
	return nil
}

// Address writes a PCI address as sysfs does, "0000:65:00.0": small letters, and a domain of four digits where NVML writes
// eight and people none. What is no such address comes back as it is.
func Address(addr string) string {
	a := strings.ToLower(addr)
	if strings.Count(a, ":") == 1 {
		a = "0000:" + a
	}
	m := busAddress.FindStringSubmatch(a)
	if m == nil {
		return addr
	}
	domain := strings.TrimLeft(m[1], "0")
	return strings.Repeat("0", max(0, 4-len(domain))) + domain + ":" + m[2]
}

// NodeOfPCI returns the NUMA node of the PCI device at an address such as "0000:65:00.0", Unknown (-1) if there is none or
// the kernel does not say.
func (m *Machine) NodeOfPCI(addr string) int {
	if d, ok := m.pci[Address(addr)]; ok {
		return d.node
	}
	return Unknown
}

// RootPort returns the address of the port of the CPU below which a PCI device is, with or without switches in between.
// It is empty if that is not known, and for a device that is at no port, as in most virtual machines.
func (m *Machine) RootPort(addr string) string {
	if path := m.pci[Address(addr)].path; len(path) > 2 {
		return path[1]
	}
	return ""
}

// HostBridge returns the host bridge below which a PCI device is, such as "pci0000:60", empty if it is not known. A CPU has
// several; on AMD EPYC each has its own way to memory, which its root ports share.
func (m *Machine) HostBridge(addr string) string {
	if path := m.pci[Address(addr)].path; path != nil {
		return path[0]
	}
	return ""
}

// SharedRootPorts returns the groups of GPUs that share a root port, each with two or more of addrs, in their order. They
// share its bandwidth: AMD's Rome and Milan carry about 37.5 GB/s from one into the CPU, less than two GPUs of PCIe 4.0
// want. An address that comes twice counts once, one without a known port not at all.
func (m *Machine) SharedRootPorts(addrs []string) [][]string { return groups(addrs, m.RootPort) }

// SharedHostBridges does the same for host bridges, whose root ports may share one way into the CPU.
func (m *Machine) SharedHostBridges(addrs []string) [][]string { return groups(addrs, m.HostBridge) }

// groups puts the addresses together that have the same key, and leaves out who is alone.
func groups(addrs []string, key func(string) string) (all [][]string) {
	members, seen := map[string][]string{}, map[string]bool{}
	var order []string
	for _, addr := range addrs {
		k := key(addr)
		if k == "" || seen[Address(addr)] {
			continue
		}
		seen[Address(addr)] = true
		if members[k] == nil {
			order = append(order, k)
		}
		members[k] = append(members[k], addr)
	}
	for _, k := range order {
		all = append(all, members[k])
	}
	return slices.DeleteFunc(all, func(g []string) bool { return len(g) < 2 })
}
