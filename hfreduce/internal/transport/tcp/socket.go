// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"fmt"
	"net"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// detach takes a connection out of Go's poller: the link polls it itself. conn is closed in any case; the caller owns
// the returned descriptor, which is non-blocking.
func detach(conn net.Conn, sendBuffer, receiveBuffer int) (fd int, err error) {
	defer conn.Close()
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("tcp: a %T has no descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("tcp: %w", err)
	}
	cerr := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3) })
	if cerr != nil {
		return -1, fmt.Errorf("tcp: %w", cerr)
	}
	if err != nil {
		return -1, fmt.Errorf("tcp: duplicate descriptor: %w (if there are too many: raise ulimit -n)", err)
	}
	if err := configure(fd, sendBuffer, receiveBuffer); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// configure sets the socket's options.
func configure(fd, sendBuffer, receiveBuffer int) error {
	options := []struct {
		level, name, value int
		what               string
	}{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "TCP_NODELAY"},
		{unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer, "SO_SNDBUF"},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer, "SO_RCVBUF"},
	}
	for _, o := range options {
		if o.value == 0 {
			continue
		}
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("tcp: set %s to %d: %w", o.what, o.value, err)
		}
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("tcp: set non-blocking: %w", err)
	}
	return nil
}

// vector is a message header of the kernel and the memory that it points to, for calls that allocate nothing. It is part
// of a Link, which is on the heap, so its address does not change.
type vector struct {
	msg  unix.Msghdr
	iov  [3 * maxGather]unix.Iovec
	used int
	asks int // bytes in all
}

// add appends b to the vector. The pointer is a *byte in the heap-allocated iov, so b stays alive.
func (v *vector) add(b []byte) {
	if len(b) == 0 {
		return
	}
	v.iov[v.used].Base = &b[0]
	v.iov[v.used].SetLen(len(b))
	v.used++
	v.asks += len(b)
}

// reset forgets the memory: a stale pointer would keep it alive, or point into memory that is unmapped by now.
func (v *vector) reset() {
	for i := range v.iov[:v.used] {
		v.iov[i].Base = nil
	}
	v.used, v.asks = 0, 0
}

// direction is a way over a socket, by the numbers of its system calls.
type direction struct{ vector, plain uintptr }

var (
	outward = direction{unix.SYS_SENDMSG, unix.SYS_SENDTO}
	inward  = direction{unix.SYS_RECVMSG, unix.SYS_RECVFROM}
)

// callFlags are those of all calls.
const callFlags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL

// call sends or receives without blocking. RawSyscall skips the scheduler's bookkeeping, which is right for a call that
// never waits, and saves a third of its cost; so does the plain call, where one piece of memory is all there is, for what
// the kernel does before it comes to the bytes.
func (v *vector) call(d direction, fd int) (int, unix.Errno) {
	if v.used == 1 {
		return transfer(d.plain, fd, v.piece(0))
	}
	v.msg.Iov = &v.iov[0]
	v.msg.SetIovlen(v.used)
	for {
		n, _, errno := unix.RawSyscall6(d.vector, uintptr(fd), uintptr(unsafe.Pointer(&v.msg)), callFlags, 0, 0, 0)
		runtime.KeepAlive(v)
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// transfer is a plain call, for one piece of memory.
func transfer(call uintptr, fd int, b []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), callFlags, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// hungUp reports whether the peer has closed an idle connection already.
func hungUp(conn net.Conn) bool {
	sc, ok := hello.TCP(conn).(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	var b [1]byte
	n := 0
	cerr := raw.Control(func(fd uintptr) { n, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT) })
	return cerr != nil || n == 0 && err != unix.EAGAIN
}
