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

// rawOf returns the way to the descriptor of a connection, or of the one that it encrypts; nil if it has none.
func rawOf(conn net.Conn) (syscall.RawConn, error) {
	for {
		outer, ok := conn.(interface{ NetConn() net.Conn }) // as *tls.Conn
		if !ok {
			break
		}
		conn = outer.NetConn()
	}
	if c, ok := conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, nil
}

// Gauge looks at one connection from time to time. It allocates nothing, as there may be many.
type Gauge struct {
	raw     syscall.RawConn
	monitor Monitor
	look    func(fd uintptr)
	state   State
	err     error
}

// NewGauge returns the gauge of a connection, nil for one without a descriptor, which has no host.
func NewGauge(conn net.Conn) *Gauge {
	raw, err := rawOf(conn)
	if raw == nil || err != nil {
		return nil
	}
	g := &Gauge{raw: raw}
	g.look = func(fd uintptr) { g.state, g.err = Look(int(fd)) }
	return g
}

// Silent looks, and returns for how long the kernel has been asking the connection's host in vain; zero if it is not, or the
// connection is closed.
func (g *Gauge) Silent(now time.Time) time.Duration {
	if err := g.raw.Control(g.look); err != nil || g.err != nil {
		return 0
	}
	return g.monitor.Silent(g.state, now)
}

// Do calls f with the descriptor of a connection, if it has one, or of the one that it encrypts.
func Do(conn net.Conn, f func(fd int) error) error {
	raw, err := rawOf(conn)
	if raw == nil || err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// Expect makes the kernel end a connection when what was sent is not acknowledged for bound, 0 for as long as it likes. It is for
// exchanges of a few bytes, for which the other side has room whatever its process does. Between them the kernel then goes by the
// bound, too, instead of the number of probes that Keep has set: it is never so short that one lost probe ends the connection.
func Expect(conn net.Conn, bound time.Duration) error {
	if bound > 0 {
		bound = max(bound, probes(bound).lasts())
	}
	return Do(conn, func(fd int) error { return expect(fd, bound) })
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
