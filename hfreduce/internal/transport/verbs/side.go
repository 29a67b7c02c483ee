// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// side is the TCP connection beside a link's queue pairs. Nothing comes over it after the meeting but its end. Since it is
// idle, the kernel's keepalive, which package tcp has switched on, notices that the host is gone, also for a rank that sends
// nothing.
type side struct {
	conn   net.Conn
	fd     int
	peeked byte
}

func newSide(conn net.Conn) (side, error) {
	conn = hello.TCP(conn) // what says nothing but its end needs no TLS
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return side{}, fmt.Errorf("a %T has no descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return side{}, err
	}
	s := side{conn: conn}
	if err := raw.Control(func(fd uintptr) { s.fd = int(fd) }); err != nil {
		return side{}, err
	}
	return s, nil
}

// errGone is the end of the connection without a bye over the queue pairs.
var errGone = errors.New("its process ended or gave up the link")

// look returns why the connection has ended, nil if it has not, and whether the peer has sent something, which belongs to
// the meeting. It does not block.
func (s *side) look() (sent bool, err error) {
	const flags = unix.MSG_DONTWAIT | unix.MSG_PEEK
	// As package tcp does: it never waits, and unix.Recvfrom allocates.
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&s.peeked)), 1, flags, 0, 0)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return false, nil
	case errno != 0:
		return false, fmt.Errorf("%w: %w", errGone, errno)
	case n == 0:
		return false, errGone
	}
	return true, nil
}

func (s *side) close() error { return s.conn.Close() }
