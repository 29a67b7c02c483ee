// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// TestCongestion: links within the machine use reno at both ends, links to other machines the system's choice.
func TestCongestion(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	system := congestionOf(t, fd)
	unix.Close(fd)
	// Ranks 0 and 1 are told that they share a machine, rank 2 that it has one of its own.
	w := newWorld(t, 3, "127.0.0.1", func(c *Config) { self := c.Rank; c.Near = func(rank int) bool { return rank+self == 1 } })
	for _, c := range []struct {
		a, b int
		want string
	}{{0, 1, nearCongestion}, {0, 2, system}, {1, 2, system}} {
		var links [2]*Link
		errs := make(chan error)
		for i, r := range []int{c.a, c.b} {
			go func() {
				l, err := w.transports[r].Connect(t.Context(), c.a+c.b-r, "k", transport.LinkConfig{Bell: wait.NewChan()})
				if err == nil {
					links[i] = l.(*Link)
				}
				errs <- err
			}()
		}
		if err := errors.Join(<-errs, <-errs); err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if got := congestionOf(t, l.fd); got != c.want {
				t.Errorf("ranks %d and %d: the link to rank %d uses %s, want %s", c.a, c.b, l.Peer(), got, c.want)
			}
			l.Close()
		}
	}
}

func congestionOf(t *testing.T, fd int) string {
	t.Helper()
	s, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
