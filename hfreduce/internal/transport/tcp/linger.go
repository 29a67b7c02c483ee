// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A socket that is closed with bytes of the peer unread, or that gets some afterwards, resets the connection, and the
// kernel throws away what it had still to deliver. So a closed link's socket stays until the peer's kernel has
// everything, or the peer has closed too, or for lingerTimeout.
const (
	lingerTimeout = 2 * time.Second
	lingerLook    = 10 * time.Millisecond // no event tells that all bytes were acknowledged
)

// linger takes the descriptor of a closed link over. After the transport's Close it waits no more.
func (t *Transport) linger(fd int) {
	_ = unix.Shutdown(fd, unix.SHUT_WR)
	file := os.NewFile(uintptr(fd), "link")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return
	}
	if !t.start(func() { drain(conn, time.Now().Add(lingerTimeout)) }) {
		conn.Close()
	}
}

// drain reads and forgets until there is no need to keep the connection.
func drain(conn net.Conn, deadline time.Time) {
	defer conn.Close()
	var b [4096]byte
	for now := time.Now(); now.Before(deadline); now = time.Now() {
		conn.SetReadDeadline(now.Add(lingerLook))
		if _, err := conn.Read(b[:]); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) || delivered(conn) {
				return
			}
		}
	}
}

// delivered reports whether the peer's kernel has acknowledged everything.
func delivered(conn net.Conn) bool {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	left := 0
	cerr := raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return cerr != nil || err != nil || left == 0
}
