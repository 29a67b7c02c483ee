// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"fmt"
	"os"
	"syscall"
)

// PortState is the logical state of a port, enum ibv_port_state. Only an active one carries data.
type PortState uint32

// The states of a port.
const (
	PortNop PortState = iota
	PortDown
	PortInit
	PortArmed
	PortActive
	PortActiveDefer
)

// String returns the state in a word.
func (s PortState) String() string {
	return name(s, []string{"no state change", "down", "initializing", "armed", "active", "active, deferred"})
}

// LinkLayer is what a port speaks.
type LinkLayer uint32

// The link layers. A port that does not say is InfiniBand.
const (
	LinkUnspecified LinkLayer = iota
	InfiniBand
	Ethernet
)

// String returns the name.
func (l LinkLayer) String() string {
	return name(l, []string{"unspecified", "InfiniBand", "Ethernet"})
}

// name returns the name of a number, or the number with its type.
func name[T ~uint32](v T, names []string) string {
	if int(v) < len(names) && names[v] != "" {
		return names[v]
	}
	return fmt.Sprintf("%T(%d)", v, uint32(v))
}

// PortAttr is the state of a port.
type PortAttr struct {
	State           PortState
	LinkLayer       LinkLayer
	ActiveMTU       int     // bytes of payload in a packet: 256, 512, 1024, 2048 or 4096
	MaxMTU          int     // bytes, the same
	MaxMessageBytes uint32  // bytes of one work request
	LID             uint16  // address in an InfiniBand subnet, 0 on Ethernet
	GIDs            int     // length of the GID table; most entries are empty
	PKeys           int     // length of the partition key table
	GRHRequired     bool    // paths need a GID: on Ethernet, and on InfiniBand those of virtual functions that share a LID
	Gbps            float64 // data rate in 1e9 bits per second, from /sys/class/infiniband; 0 if not known
}

// Port asks for the state of a port, which are numbered from 1.
//
// Implements: ibv_query_port.
func (d *Device) Port(port int) (a PortAttr, err error) {
	err = d.with(func() error {
		a, err = d.port(port)
		return err
	})
	return a, err
}

// port is Port on a device that is held.
func (d *Device) port(port int) (PortAttr, error) {
	if err := checkPort(port); err != nil {
		return PortAttr{}, err
	}
	a, errno := rawPort(d.handle, port)
	if errno != 0 {
		return PortAttr{}, d.failed(errno, "ibv_query_port", fmt.Sprintf("of port %d", port))
	}
	a.Gbps = portRate(os.DirFS("/sys"), d.device, port)
	return a, nil
}

func checkPort(port int) error {
	if port < 1 || port > 255 {
		return invalidf("port %d is not in 1..255", port)
	}
	return nil
}

// PKey returns an entry of the partition key table in host order: the key in the low 15 bits, and full membership in
// the highest. Index 0 is the default partition, 0xffff.
//
// Implements: ibv_query_pkey.
func (d *Device) PKey(port, index int) (key uint16, err error) {
	if err := checkPort(port); err != nil {
		return 0, err
	}
	err = d.with(func() error {
		var errno syscall.Errno
		key, errno = rawPKey(d.handle, port, index)
		return d.failed(errno, "ibv_query_pkey", fmt.Sprintf("of port %d, index %d", port, index))
	})
	return key, err
}

// mtuBytes returns the bytes of an enum ibv_mtu: 1 is 256 and 5 is 4096. 0 if there is no such value.
func mtuBytes(mtu uint32) int {
	if mtu < 1 || mtu > 5 {
		return 0
	}
	return 128 << mtu
}

// mtuEnum returns the enum ibv_mtu of a number of bytes, 0 if there is none.
func mtuEnum(bytes int) uint32 {
	for e := uint32(1); e <= 5; e++ {
		if mtuBytes(e) == bytes {
			return e
		}
	}
	return 0
}
