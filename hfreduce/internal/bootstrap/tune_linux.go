// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A host that vanishes without a word is noticed after keepIdle+keepCount*keepInterval of silence, or when data stays
// unacknowledged for as long.
const (
	keepIdle     = 5 * time.Second
	keepInterval = 5 * time.Second
	keepCount    = 3
	userTimeout  = keepIdle + keepCount*keepInterval
)

// tune makes the kernel watch a control connection. Where an option is refused, the connection is merely slower to
// notice a vanished host.
func tune(conn net.Conn) {
	c, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount})
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
		})
	}
}
