// SPDX-License-Identifier: Apache-2.0

// Package topo knows a machine's NUMA nodes and where its GPUs and NICs are attached, as the kernel tells it in sysfs, and
// decides from that where memory and threads belong.
package topo

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hfreduce/hfreduce/internal/cpus"
)

// Unknown is the node of a device of which the kernel does not say where it is.
const Unknown = -1

// Machine is what sysfs told about a machine. It does not change.
type Machine struct {
	nodes []node // ascending, at least one
	pci   map[string]device
	rdma  map[string]int // node by name
}

// node is a NUMA node.
type node struct {
	number    int
	cpus      cpus.Set
	memory    bool
	distances []int // to the nodes of the machine in their order; nil if not known
}

// Read reads the machine whose /sys is sys. What is missing there is not known, and no error: a kernel without NUMA has
// one node 0 with all processors. Errors: a list of processors that is none.
func Read(sys fs.FS) (*Machine, error) {
	nodes, err := readNodes(sys)
	if err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	return &Machine{nodes: nodes, pci: readPCI(sys), rdma: readRDMA(sys)}, nil
}

const nodeRoot = "devices/system/node"

func readNodes(sys fs.FS) (nodes []node, err error) {
	entries, _ := fs.ReadDir(sys, nodeRoot) // none: no NUMA
	withMemory, known, err := readList(sys, nodeRoot+"/has_memory")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), "node")
		number, err := strconv.Atoi(digits)
		if !ok || err != nil || number < 0 {
			continue // other files of the folder
		}
		n := node{number: number, memory: withMemory.Has(number)}
		root := nodeRoot + "/" + e.Name()
		if n.cpus, _, err = readList(sys, root+"/cpulist"); err != nil {
			return nil, err
		}
		if !known {
			n.memory = hasMemory(sys, root)
		}
		n.distances = readNumbers(sys, root+"/distance")
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		all, _, err := readList(sys, "devices/system/cpu/online")
		return []node{{cpus: all, memory: true}}, err
	}
	slices.SortFunc(nodes, func(a, b node) int { return cmp.Compare(a.number, b.number) })
	return nodes, nil
}

// hasMemory looks at a node's own file, where the list of nodes with memory is missing; a node that tells nothing has
// some.
func hasMemory(sys fs.FS, root string) bool {
	for line := range strings.SplitSeq(readText(sys, root+"/meminfo"), "\n") {
		if _, total, ok := strings.Cut(line, "MemTotal:"); ok {
			return !strings.HasPrefix(strings.TrimSpace(total), "0 ")
		}
	}
	return true
}

// readText returns a file's text without the white space around it, empty if it cannot be read.
func readText(sys fs.FS, path string) string {
	b, err := fs.ReadFile(sys, path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// readList reads numbers as the kernel lists them; known is false if the file cannot be read.
func readList(sys fs.FS, path string) (list cpus.Set, known bool, err error) {
	b, err := fs.ReadFile(sys, path)
	if err != nil {
		return "", false, nil
	}
	if list, err = cpus.Parse(string(b)); err != nil {
		return "", false, fmt.Errorf("%s: %w", path, err)
	}
	return list, true, nil
}

// readNumbers reads a line of numbers, nil if there is no such line.
func readNumbers(sys fs.FS, path string) (numbers []int) {
	for field := range strings.FieldsSeq(readText(sys, path)) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return nil
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// readNode reads the NUMA node of a device.
func readNode(sys fs.FS, path string) int {
	n, err := strconv.Atoi(readText(sys, path))
	if err != nil || n < 0 {
		return Unknown
	}
	return n
}

func readRDMA(sys fs.FS) map[string]int {
	const root = "class/infiniband"
	nodes := map[string]int{}
	entries, _ := fs.ReadDir(sys, root) // none: no such device
	for _, e := range entries {
		nodes[e.Name()] = readNode(sys, root+"/"+e.Name()+"/device/numa_node")
	}
	return nodes
}

// Nodes returns the numbers of the NUMA nodes, ascending. There is at least one.
func (m *Machine) Nodes() []int {
	numbers := make([]int, len(m.nodes))
	for i, n := range m.nodes {
		numbers[i] = n.number
	}
	return numbers
}

// at returns where a node is in m.nodes, -1 if there is no such node.
func (m *Machine) at(number int) int {
	return slices.IndexFunc(m.nodes, func(n node) bool { return n.number == number })
}

// CPUs returns the processors of a node, empty if it has none or there is no such node.
func (m *Machine) CPUs(node int) cpus.Set {
	if i := m.at(node); i >= 0 {
		return m.nodes[i].cpus
	}
	return ""
}

// HasMemory reports whether a node has memory.
func (m *Machine) HasMemory(node int) bool {
	i := m.at(node)
	return i >= 0 && m.nodes[i].memory
}

// Distance returns how far node b is from node a by the firmware's table, in which 10 is a node itself and 20 twice as
// far; 0 if it is not known.
func (m *Machine) Distance(a, b int) int {
	i, j := m.at(a), m.at(b)
	if i < 0 || j < 0 || j >= len(m.nodes[i].distances) {
		return 0
	}
	return m.nodes[i].distances[j]
}

// nearest returns the node that is good and least far from a node, that node itself if it is; false if none is good.
func (m *Machine) nearest(from int, good func(node) bool) (int, bool) {
	best, found := Unknown, false
	for _, n := range m.nodes {
		switch {
		case !good(n):
		case n.number == from:
			return from, true
		case !found || m.Distance(from, n.number) < m.Distance(from, best):
			best, found = n.number, true
		}
	}
	return best, found
}

// NodeOfRDMA returns the NUMA node of an RDMA device, which may be named with a port as in "mlx5_0:1"; Unknown (-1) where
// the kernel does not say, as for software devices, and where there is no such device.
func (m *Machine) NodeOfRDMA(name string) int {
	name, _, _ = strings.Cut(name, ":")
	if n, ok := m.rdma[name]; ok {
		return n
	}
	return Unknown
}

// RDMADevices returns the names of the RDMA devices in their order.
func (m *Machine) RDMADevices() []string { return slices.Sorted(maps.Keys(m.rdma)) }
