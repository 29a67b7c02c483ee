// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Between ranks of one machine there is no congestion to control, and what tries costs: bbr, some systems' default, spaces
// packets by timers, which makes messages of 1 MiB take three times as long. So these links use reno, which every kernel
// has and lets everybody choose. Links to other machines keep the system's choice.
//
// It must be chosen before the connection stands, since bbr leaves the spacing switched on: for those that are dialed on
// the socket, for those that are accepted on the listening socket, from which they have it. Those of other machines are
// given the system's choice back.
const nearCongestion = "reno"

// near reports whether a rank runs on this machine.
func (c *Config) near(rank int) bool { return c.Near != nil && c.Near(rank) }

// prepareListener makes the accepted connections begin as links within the machine need it, if there can be any.
func (t *Transport) prepareListener() {
	if t.cfg.Near == nil {
		return
	}
	t.cfg.Listener.Control(func(fd uintptr) {
		system, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		if err == nil && unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, nearCongestion) == nil {
			t.systemCongestion = system
		}
	})
}

// nearControl is a net.Dialer's Control for links within the machine. A kernel that refuses leaves a link that works.
func nearControl(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, nearCongestion)
	})
}

// restoreCongestion gives an accepted connection from another machine the system's choice.
func (t *Transport) restoreCongestion(fd int) {
	if t.systemCongestion != "" {
		_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, t.systemCongestion)
	}
}
