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

// linger takes the descriptor of a closed link over, and the control frames that the kernel did not take at once. After
// the transport's Close it waits no more.
func (t *Transport) linger(fd int, rest []byte) {
	file := os.NewFile(uintptr(fd), "link")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return
	}
	if !t.start(func() { finish(conn.(*net.TCPConn), rest, time.Now().Add(lingerTimeout)) }) {
		conn.Close()
	}
}

// finish sends the rest and sees the connection to its end.
func finish(conn *net.TCPConn, rest []byte, deadline time.Time) {
	defer conn.Close()
	conn.SetWriteDeadline(deadline)
	if _, err := conn.Write(rest); err != nil {
		return
	}
	if err := conn.CloseWrite(); err != nil {
		return
	}
	drain(conn, deadline)
}

// drain reads and forgets until there is no need to keep the connection.
func drain(conn *net.TCPConn, deadline time.Time) {
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
func delivered(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	left := 0
	cerr := raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return cerr != nil || err != nil || left == 0
}
