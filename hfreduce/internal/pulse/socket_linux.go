// SPDX-License-Identifier: Apache-2.0

package pulse

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Keep makes the kernel end a connection on which nothing is under way once the other host has been silent for bound.
func Keep(fd int, bound time.Duration) error {
	p := probes(bound)
	for _, o := range []struct {
		level, name, value int
		what               string
	}{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, "SO_KEEPALIVE"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, p.idle, "TCP_KEEPIDLE"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, p.interval, "TCP_KEEPINTVL"},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, p.count, "TCP_KEEPCNT"},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set %s to %d: %w", o.what, o.value, err)
		}
	}
	// Kernels before 6.15 do not know it; there a path that came back, or a window that is closed, is tried less often.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, longest(bound))
	return nil
}

// expect is Expect for a descriptor.
func expect(fd int, bound time.Duration) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(bound/time.Millisecond)); err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT to %v: %w", bound, err)
	}
	return nil
}

// Look reads a connection's state. It allocates nothing.
func Look(fd int) (State, error) {
	var i unix.TCPInfo
	size := uint32(unsafe.Sizeof(i))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&i)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return State{}, fmt.Errorf("getsockopt(TCP_INFO): %w", errno)
	}
	return State{
		Unacked: i.Unacked, Unsent: i.Notsent_bytes, Retransmits: i.Retransmits, Probes: i.Probes, Acked: i.Bytes_acked,
		Heard: time.Duration(i.Last_ack_recv) * time.Millisecond,
	}, nil
}
