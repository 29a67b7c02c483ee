// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
)

// GIDType says which packets a GID of a port is for.
type GIDType uint32

// The types of GIDs. Packets of RoCEv2 are UDP and can be routed; those of RoCEv1 stay in the Ethernet segment.
const (
	GIDUnknown GIDType = iota
	GIDInfiniBand
	GIDRoCEv1
	GIDRoCEv2
)

// String returns the name.
func (t GIDType) String() string {
	return name(t, []string{"unknown", "InfiniBand", "RoCEv1", "RoCEv2"})
}

// GID is an entry of a port's table of addresses.
type GID struct {
	Index  int      // in the table; it can change when addresses of the network device do
	Raw    [16]byte // as packets carry it
	Type   GIDType
	NetDev string // the network device that it belongs to, empty if not known
}

// Addr returns the GID as an IP address: that of the network device for RoCEv2, IPv4 where it is mapped into IPv6.
func (g GID) Addr() netip.Addr { return netip.AddrFrom16(g.Raw).Unmap() }

// String returns e.g. "1 RoCEv2 10.9.0.1 eth0".
func (g GID) String() string {
	s := fmt.Sprintf("%d %v %v", g.Index, g.Type, g.Addr())
	if g.NetDev != "" {
		s += " " + g.NetDev
	}
	return s
}

// GIDs returns the entries of the port's table that are not empty. Their types and network devices are the kernel's
// (gid_attrs in /sys/class/infiniband).
//
// Implements: ibv_query_gid.
func (d *Device) GIDs(port int) (gids []GID, err error) {
	err = d.with(func() error {
		a, err := d.port(port)
		if err != nil {
			return err
		}
		for i := range a.GIDs {
			raw, errno := rawGID(d.handle, port, i)
			if errno == syscall.ENODATA || errno == 0 && raw == [16]byte{} {
				continue // empty, as newer and older kernels say it
			}
			if errno != 0 {
				return d.failed(errno, "ibv_query_gid", fmt.Sprintf("of port %d, index %d", port, i))
			}
			g := GID{Index: i, Raw: raw}
			g.Type, g.NetDev = gidAttributes(os.DirFS("/sys"), d.device, port, i, a.LinkLayer)
			gids = append(gids, g)
		}
		return nil
	})
	return gids, err
}
