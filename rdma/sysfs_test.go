// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
)

// sysfs is a /sys with a device on the PCI bus that speaks Ethernet, one that speaks InfiniBand, and one in software.
func sysfs() fstest.MapFS {
	fs := fstest.MapFS{}
	for path, text := range map[string]string{
		"mlx5_0/device/numa_node":          "1\n",
		"mlx5_0/device/uevent":             "DRIVER=mlx5_core\nPCI_CLASS=20000\nPCI_SLOT_NAME=0000:3b:00.0\nMODALIAS=x\n",
		"mlx5_0/ports/1/rate":              "100 Gb/sec (4X EDR)\n",
		"mlx5_0/ports/1/gid_attrs/types/0": "IB/RoCE v1\n",
		"mlx5_0/ports/1/gid_attrs/types/1": "RoCE v2\n",
		"mlx5_0/ports/1/gid_attrs/ndevs/0": "eth2\n",
		"mlx5_0/ports/1/gid_attrs/ndevs/1": "eth2\n",
		"mlx5_0/ports/2/rate":              "2.5 Gb/sec (1X SDR)\n",
		"mlx5_1/device/numa_node":          "-1\n",
		"mlx5_1/ports/1/gid_attrs/types/0": "IB/RoCE v1\n",
		"rxe1/ports/1/rate":                "\n",
		"rxe1/ports/1/gid_attrs/ndevs/0":   "h1\n",
	} {
		fs["class/infiniband/"+path] = &fstest.MapFile{Data: []byte(text)}
	}
	return fs
}

func TestSysfsDevice(t *testing.T) {
	for _, want := range []DeviceInfo{
		{"mlx5_0", "0000:3b:00.0", 1, 2},
		{"mlx5_1", "", -1, 1},
		{"rxe1", "", -1, 1},
		{"gone", "", -1, 0},
	} {
		if got := deviceInfo(sysfs(), want.Name); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestSysfsRate(t *testing.T) {
	for _, c := range []struct {
		device string
		port   int
		want   float64
	}{{"mlx5_0", 1, 100}, {"mlx5_0", 2, 2.5}, {"mlx5_1", 1, 0}, {"rxe1", 1, 0}} {
		if got := portRate(sysfs(), c.device, c.port); got != c.want {
			t.Errorf("port %d of %s has %v Gbit/s, want %v", c.port, c.device, got, c.want)
		}
	}
}

func TestSysfsGID(t *testing.T) {
	for _, c := range []struct {
		device string
		index  int
		link   LinkLayer
		typ    GIDType
		dev    string
	}{
		{"mlx5_0", 0, Ethernet, GIDRoCEv1, "eth2"},
		{"mlx5_0", 1, Ethernet, GIDRoCEv2, "eth2"},
		{"mlx5_0", 2, Ethernet, GIDUnknown, ""},
		{"mlx5_1", 0, InfiniBand, GIDInfiniBand, ""},
		{"mlx5_1", 0, LinkUnspecified, GIDInfiniBand, ""},
		{"rxe1", 0, Ethernet, GIDUnknown, "h1"},
	} {
		if typ, dev := gidAttributes(sysfs(), c.device, 1, c.index, c.link); typ != c.typ || dev != c.dev {
			t.Errorf("GID %d of %s is %v of %q, want %v of %q", c.index, c.device, typ, dev, c.typ, c.dev)
		}
	}
}

func TestGIDAddr(t *testing.T) {
	v4 := GID{Index: 1, Raw: netip.MustParseAddr("::ffff:10.9.0.1").As16(), Type: GIDRoCEv2, NetDev: "h1"}
	if got := v4.Addr(); got != netip.MustParseAddr("10.9.0.1") {
		t.Errorf("the address is %v", got)
	}
	if got, want := v4.String(), "1 RoCEv2 10.9.0.1 h1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	v6 := GID{Raw: netip.MustParseAddr("fe80::1").As16()}
	if got := v6.Addr(); !got.IsLinkLocalUnicast() || v6.String() != "0 unknown fe80::1" {
		t.Errorf("the address is %v, the text %q", got, v6)
	}
}

func TestSysfsNoDevice(t *testing.T) {
	nodes := fstest.MapFS{"infiniband/uverbs0": &fstest.MapFile{}}
	for _, c := range []struct {
		sys, dev fstest.MapFS
		want     []string
	}{
		{nil, nil, []string{"no RDMA device (is the kernel module loaded?)"}},
		{sysfs(), nil, []string{"mlx5_0, mlx5_1, rxe1", "no /dev/infiniband/uverbs*", "container"}},
		{sysfs(), nodes, []string{"mlx5_0, mlx5_1, rxe1", "provider"}},
	} {
		got := noDevice(c.sys, c.dev)
		for _, part := range c.want {
			if !strings.Contains(got, part) {
				t.Errorf("%q does not say %q", got, part)
			}
		}
	}
}
