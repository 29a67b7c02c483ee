// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package bootstrap

import (
	"net"
	"time"
)

// tune makes the kernel watch a control connection.
func tune(conn net.Conn) {
	if c, ok := conn.(*net.TCPConn); ok {
		c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3})
	}
}
