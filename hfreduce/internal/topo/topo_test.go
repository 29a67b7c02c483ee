// SPDX-License-Identifier: Apache-2.0

package topo

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hfreduce/hfreduce/internal/cpus"
)

func TestNodes(t *testing.T) {
	odd := tree{} // node 10 has no memory, node 2 no processors, the numbers have gaps
	odd.node("0", "0-3,8-11", "10 20 40")
	odd.node("2", "", "20 10 30")
	odd.node("10", "4-7", "40 30 10")
	odd.file("devices/system/cpu/online", "0-11")
	listed := odd.with(func(s tree) { s.file("devices/system/node/has_memory", "0,2") })
	meminfo := odd.with(func(s tree) {
		s.file("devices/system/node/node0/meminfo", "Node 0 MemTotal:       65536 kB\nNode 0 MemFree:        0 kB")
		s.file("devices/system/node/node10/meminfo", "Node 10 MemTotal:       0 kB\nNode 10 MemFree:        0 kB")
	})
	flat := tree{}
	flat.file("devices/system/cpu/online", "0-3")
	for name, c := range map[string]struct {
		sys  tree
		want string
	}{
		"two":                       {node8(), "0:0-31:true 1:32-63:true"},
		"listed memory":             {listed, "0:0-3,8-11:true 2:none:true 10:4-7:false"},
		"memory of the nodes' own":  {meminfo, "0:0-3,8-11:true 2:none:true 10:4-7:false"},
		"memory that nothing tells": {odd, "0:0-3,8-11:true 2:none:true 10:4-7:true"},
		"without NUMA":              {flat, "0:0-3:true"},
		"nothing":                   {tree{}, "0:none:true"},
	} {
		t.Run(name, func(t *testing.T) {
			m, got := c.sys.read(t), []string{}
			for _, n := range m.Nodes() {
				got = append(got, fmt.Sprintf("%d:%v:%t", n, m.CPUs(n), m.HasMemory(n)))
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got %s, want %s", s, c.want)
			}
			if m.CPUs(7) != "" || m.HasMemory(7) || m.CPUs(-1) != "" {
				t.Error("a node that is not there has something")
			}
		})
	}
	m := listed.read(t)
	for _, c := range [][3]int{{0, 10, 40}, {10, 2, 30}, {2, 2, 10}, {0, 7, 0}, {7, 0, 0}} {
		if got := m.Distance(c[0], c[1]); got != c[2] {
			t.Errorf("from node %d to %d: got %d, want %d", c[0], c[1], got, c[2])
		}
	}
	for path, text := range map[string]string{"node0/distance": "", "node2/distance": "x 10"} {
		broken := node8().with(func(s tree) { s.node("2", "", ""); s.file("devices/system/node/"+path, text) }).read(t)
		if got := broken.Distance(int(path[4]-'0'), 0); got != 0 {
			t.Errorf("distance of %q: got %d", text, got)
		}
	}
}

func TestReadSaysWhichListIsBroken(t *testing.T) {
	for _, path := range []string{"devices/system/node/node1/cpulist", "devices/system/node/has_memory"} {
		sys := node8().with(func(s tree) { s.file(path, "0-") })
		if m, err := Read(fstest.MapFS(sys)); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s is broken: got %v, %v", path, m, err)
		}
	}
	flat := tree{}
	flat.file("devices/system/cpu/online", "all")
	if m, err := Read(fstest.MapFS(flat)); err == nil {
		t.Errorf("broken list of processors: got %v", m)
	}
}

func TestDevices(t *testing.T) {
	m := node8().with(func(s tree) {
		s.device("pci0000:00/0000:00:05.0", "-1")                                                          // in the CPU, or of a virtual machine
		s.device("platform/NVDA0001:00/pci0002:00/0002:00:00.0/0002:01:00.0", "1")                         // as on Arm
		s.device("pci0000:80/0000:80:05.5/pci10000:e0/10000:e0:06.0/10000:e1:00.0", "x")                   // behind a controller
		s.file("bus/pci/devices/0000:77:00.0/numa_node", "0")                                              // a copy of a sysfs, without links
		s.link("bus/pci/devices/0000:78:00.0", "devices/virtual/0000:78:00.0")                             // to nowhere
		s.device("pci0000:20/0000:20:01.1/0000:21:00.0/0000:22:00.0/0000:23:00.0/0000:24:00.0", "1000000") // deep
	}).read(t)
	for _, c := range []struct {
		addr         string
		node         int
		port, bridge string
	}{
		{"0000:01:00.0", 0, "0000:00:01.1", "pci0000:00"},
		{"00000000:E1:00.0", 1, "0000:e0:01.1", "pci0000:e0"},
		{"0000:a3:00.0", 1, "0000:a0:03.1", "pci0000:a0"},
		{"A4:00.0", 1, "0000:a0:03.1", "pci0000:a0"},
		{"0000:00:05.0", Unknown, "", "pci0000:00"},
		{"0002:01:00.0", 1, "0002:00:00.0", "pci0002:00"},
		{"10000:e1:00.0", Unknown, "10000:e0:06.0", "pci10000:e0"},
		{"00010000:E1:00.0", Unknown, "10000:e0:06.0", "pci10000:e0"},
		{"0000:77:00.0", 0, "", ""},
		{"0000:78:00.0", Unknown, "", ""},
		{"0000:24:00.0", 1000000, "0000:20:01.1", "pci0000:20"},
		{"0000:ff:00.0", Unknown, "", ""},
		{"", Unknown, "", ""},
		{"GPU-1", Unknown, "", ""},
	} {
		if node, port, bridge := m.NodeOfPCI(c.addr), m.RootPort(c.addr), m.HostBridge(c.addr); node != c.node || port != c.port || bridge != c.bridge {
			t.Errorf("%s: got node %d, port %q, bridge %q, want %d, %q, %q", c.addr, node, port, bridge, c.node, c.port, c.bridge)
		}
	}
	for name, want := range map[string]int{"mlx5_0": 1, "mlx5_0:1": 1, "rxe0": Unknown, "mlx5_1": Unknown, "": Unknown} {
		if got := m.NodeOfRDMA(name); got != want {
			t.Errorf("RDMA device %q: got node %d, want %d", name, got, want)
		}
	}
	if got := m.RDMADevices(); !slices.Equal(got, []string{"mlx5_0", "rxe0"}) {
		t.Errorf("RDMA devices are %v", got)
	}
}

func TestAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"0000:65:00.0": "0000:65:00.0", "00000000:65:00.0": "0000:65:00.0", "65:00.0": "0000:65:00.0", "0001:AB:1F.7": "0001:ab:1f.7",
		"00010000:e1:00.0": "10000:e1:00.0", "": "", "GPU-0": "GPU-0", "0000:65:00.8": "0000:65:00.8", "1:2:3": "1:2:3",
	} {
		if got := Address(addr); got != want {
			t.Errorf("%q: got %q, want %q", addr, got, want)
		}
	}
}

func TestSharedRootPorts(t *testing.T) {
	m, gpus := node8().read(t), gpus8()
	for _, c := range []struct {
		addrs []string
		want  string
	}{
		{gpus, "[[0000:A3:00.0 00000000:A4:00.0]]"},
		{gpus[:6], "[]"},
		{[]string{gpus[6], gpus[0], gpus[5]}, "[[00000000:A4:00.0 0000:A3:00.0]]"},
		{[]string{gpus[5], gpus[5], "0000:a3:00.0"}, "[]"}, // one GPU
		{[]string{"0000:fe:00.0", "0000:ff:00.0", "", ""}, "[]"},
		{nil, "[]"},
	} {
		if got := fmt.Sprint(m.SharedRootPorts(c.addrs)); got != c.want {
			t.Errorf("of %v: got %s, want %s", c.addrs, got, c.want)
		}
	}
	if got := fmt.Sprint(m.SharedHostBridges(gpus)); got != "[[0000:41:00.0 0000:45:00.0] [0000:A3:00.0 00000000:A4:00.0]]" {
		t.Errorf("host bridges: got %s", got)
	}
}

// TestThisMachine reads what there is, and finds all processors on a node and every PCI device below a host bridge.
func TestThisMachine(t *testing.T) {
	m, err := Read(os.DirFS("/sys"))
	if err != nil {
		t.Fatal(err)
	}
	if online, err := cpus.Online(); err == nil {
		var all cpus.Set
		for _, n := range m.Nodes() {
			all = all.Union(m.CPUs(n))
		}
		if all != online {
			t.Errorf("nodes %v have processors %v, online are %v", m.Nodes(), all, online)
		}
	}
	links, err := filepath.Glob("/sys/bus/pci/devices/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			t.Fatal(err)
		}
		if b := m.HostBridge(filepath.Base(link)); b == "" || !strings.Contains(target, "/"+b+"/") {
			t.Errorf("%s is %s, its bridge %q", link, target, b)
		}
	}
}
