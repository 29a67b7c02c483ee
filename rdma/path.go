// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"fmt"
	"math/bits"
	"syscall"
)

// Path is how a QP reaches its peer. Both ends must agree on the MTU, and the peer's local values be the remote ones here.
type Path struct {
	RemoteQP  uint32   // the peer's QP number
	RemotePSN uint32   // the number of the first packet that the peer sends: 24 bits, its LocalPSN
	RemoteLID uint16   // the peer's port in the InfiniBand subnet; 0 on Ethernet
	RemoteGID [16]byte // the peer's GID; not used without GIDIndex

	Port         int    // the own port, the one of Init
	GIDIndex     int    // the own GID; -1 to go without GIDs, in one InfiniBand subnet. Ethernet needs one
	SL           uint8  // service level, 0..15; on Ethernet the low 3 bits are the priority in the VLAN tag
	TrafficClass uint8  // of the packets' IP header: DSCP << 2; not used without GIDIndex
	HopLimit     uint8  // routers on the way; 64 is usual, 0 and 1 stay in the subnet; not used without GIDIndex
	MTU          int    // bytes of payload in a packet: 256, 512, 1024, 2048 or 4096; at most ActiveMTU of both ports
	LocalPSN     uint32 // the number of the first packet that is sent: 24 bits, any

	Timeout     uint8 // 0..31: a packet is sent again after 4.096 µs << Timeout without an answer; 0 waits for ever
	Retry       uint8 // 0..7: so often, then StatusRetryExceeded. Some devices take 7 for infinite: use 6 at most
	RNRRetry    uint8 // 0..7: so often where the peer has no receive posted, then StatusRNRRetryExceeded; 7 is infinite
	MinRNRTimer uint8 // 0..31: how long the peer waits before that; 1 is 10 µs, 12 is 640 µs, 31 is 491 ms, 0 is 655 ms
	MaxRDAtomic uint8 // RDMA reads outstanding in each direction; writes and sends need none
}

// check finds fields that are out of range; devices ignore or cut off some of them.
func (p *Path) check() error {
	if err := checkPort(p.Port); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		value uint32
		width int
	}{
		{"RemoteQP", p.RemoteQP, 24}, {"RemotePSN", p.RemotePSN, 24}, {"LocalPSN", p.LocalPSN, 24}, {"SL", uint32(p.SL), 4},
		{"Timeout", uint32(p.Timeout), 5}, {"Retry", uint32(p.Retry), 3}, {"RNRRetry", uint32(p.RNRRetry), 3},
		{"MinRNRTimer", uint32(p.MinRNRTimer), 5},
	} {
		if bits.Len32(f.value) > f.width {
			return invalidf("%s of the path is %d, more than %d bits", f.name, f.value, f.width)
		}
	}
	if p.GIDIndex < -1 || p.GIDIndex > 255 {
		return invalidf("GIDIndex of the path is %d, not in -1..255", p.GIDIndex)
	}
	if mtuEnum(p.MTU) == 0 {
		return invalidf("MTU of the path is %d, none of 256, 512, 1024, 2048 and 4096", p.MTU)
	}
	return nil
}

// Connect brings a QP from INIT over RTR to RTS. The peer's end does the same with the mirrored path, before or after:
// what is sent before the peer is there is repeated as Timeout and Retry say.
//
// Implements: ibv_modify_qp.
func (q *QP) Connect(p Path) error {
	if err := p.check(); err != nil {
		return err
	}
	return q.with(func() error {
		if err := q.failed(rawReadyToReceive(q.handle, &p), "ibv_modify_qp", q.way(&p, StateRTR)); err != nil {
			return hintRoute(err)
		}
		return q.failed(rawReadyToSend(q.handle, &p), "ibv_modify_qp", q.way(&p, StateRTS))
	})
}

// way says what a transition is about, for an error.
func (q *QP) way(p *Path, to State) string {
	if p.GIDIndex < 0 {
		return fmt.Sprintf("to %v, towards QP %#x at LID %d,", to, p.RemoteQP, p.RemoteLID)
	}
	return fmt.Sprintf("to %v, from GID index %d towards QP %#x at %v,", to, p.GIDIndex, p.RemoteQP, GID{Raw: p.RemoteGID}.Addr())
}

// hintRoute adds what the errors of the way to RTR mean: that is where the kernel looks for the peer's address.
func hintRoute(err error) error {
	e, ok := err.(*Error)
	if !ok {
		return err
	}
	switch e.Errno {
	case syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH:
		e.Detail = "the peer's address does not answer or has no route from this GID's network device"
	case syscall.EINVAL:
		e.Detail = "is the GID index that of a GID, and of the peer's type?"
	}
	return e
}
