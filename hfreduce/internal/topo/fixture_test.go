// SPDX-License-Identifier: Apache-2.0

package topo

import (
	"io/fs"
	"maps"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hfreduce/hfreduce/internal/cpus"
)

// tree is a /sys in the making.
type tree fstest.MapFS

func (s tree) file(path, text string) { s[path] = &fstest.MapFile{Data: []byte(text + "\n")} }

func (s tree) link(from, to string) {
	up := strings.Repeat("../", strings.Count(from, "/"))
	s[from] = &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte(up + to)}
}

func (s tree) node(number, cpulist, distance string) {
	s.file("devices/system/node/node"+number+"/cpulist", cpulist)
	s.file("devices/system/node/node"+number+"/distance", distance)
}

// device adds a PCI device at a path below devices/, which ends with its address.
func (s tree) device(at, node string) {
	s.file("devices/"+at+"/numa_node", node)
	s.link("bus/pci/devices/"+path.Base(at), "devices/"+at)
}

// rdma adds an RDMA device, of the PCI device at a path.
func (s tree) rdma(name, at string) {
	dir := "devices/" + at + "/infiniband/" + name
	s.file(dir+"/node_guid", "0000:0000:0000:0000")
	s.link("class/infiniband/"+name, dir)
	s.link(dir+"/device", "devices/"+at)
}

func (s tree) with(changes func(tree)) tree {
	s = maps.Clone(s)
	changes(s)
	return s
}

func (s tree) read(t *testing.T) *Machine {
	t.Helper()
	m, err := Read(fstest.MapFS(s))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// node8 is like the paper's machine: two sockets, eight GPUs, of which 5 and 6 share a root port, and one NIC on node 1.
func node8() tree {
	s := tree{}
	s.node("0", "0-31", "10 32")
	s.node("1", "32-63", "32 10")
	s.file("devices/system/node/has_memory", "0-1")
	s.file("devices/system/node/online", "0-1")
	s.file("devices/system/node/power/control", "auto")
	s.file("devices/system/cpu/online", "0-63")
	for _, at := range []string{
		"pci0000:00/0000:00:01.1/0000:01:00.0", "pci0000:20/0000:20:01.1/0000:21:00.0",
		"pci0000:40/0000:40:01.1/0000:41:00.0", "pci0000:40/0000:40:03.1/0000:45:00.0",
	} {
		s.device(at, "0")
	}
	for _, at := range []string{
		"pci0000:80/0000:80:01.1/0000:81:00.0",
		"pci0000:a0/0000:a0:03.1/0000:a1:00.0/0000:a2:00.0/0000:a3:00.0", // behind a switch
		"pci0000:a0/0000:a0:03.1/0000:a1:00.0/0000:a2:01.0/0000:a4:00.0",
		"pci0000:c0/0000:c0:01.1/0000:c1:00.0", "pci0000:e0/0000:e0:01.1/0000:e1:00.0",
	} {
		s.device(at, "1")
	}
	s.rdma("mlx5_0", "pci0000:e0/0000:e0:01.1/0000:e1:00.0")
	s.file("class/infiniband/rxe0/ports/1/state", "4: ACTIVE") // a software device has no PCI device
	return s
}

func gpus8() []string {
	return []string{"0000:01:00.0", "0000:21:00.0", "0000:41:00.0", "0000:45:00.0", "0000:81:00.0", "0000:A3:00.0", "00000000:A4:00.0", "c1:00.0"}
}

func list(t *testing.T, text string) cpus.Set {
	t.Helper()
	s, err := cpus.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
