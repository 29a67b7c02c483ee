// SPDX-License-Identifier: Apache-2.0

package pulse

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// Usual is the bound where none is configured.
const Usual = 7 * time.Second

// Do calls f with the descriptor of a connection, if it has one, or of the one that it encrypts.
func Do(conn net.Conn, f func(fd int) error) error {
	for {
		outer, ok := conn.(interface{ NetConn() net.Conn }) // as *tls.Conn
		if !ok {
			break
		}
		conn = outer.NetConn()
	}
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// Cut reports whether an error of a connection means that the host at its other end did not answer.
func Cut(err error) bool {
	for _, errno := range []syscall.Errno{syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
