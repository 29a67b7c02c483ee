// SPDX-License-Identifier: Apache-2.0

package pulse

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestExpect: the bound holds while it is expected, and not after. The shortest one leaves time for two probes.
func TestExpect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for bound, want := range map[time.Duration]int{2 * time.Second: 3000, 3500 * time.Millisecond: 4000, 7500 * time.Millisecond: 8000, 0: 0} {
		if err := Expect(conn, bound); err != nil {
			t.Fatal(err)
		}
		if got := userTimeout(t, conn); got != want {
			t.Errorf("the kernel waits for %d ms, want %d", got, want)
		}
	}
}

func userTimeout(t *testing.T, conn net.Conn) (ms int) {
	t.Helper()
	err := Do(conn, func(fd int) (err error) {
		ms, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ms
}
