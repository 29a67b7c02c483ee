// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/transporttest"

	"github.com/hfreduce/hfreduce/internal/testcert"
	"github.com/hfreduce/hfreduce/internal/testreq"
)

// TestMain fails if a goroutine or a descriptor is left at the end. It is also the main of the process that a test kills.
func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		victim()
		os.Exit(1)
	}
	warm, err := hello.NewListener(hello.ListenOptions{Addr: "127.0.0.1:0"}) // opens Go's own epoll descriptors
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	warm.Close()
	before := descriptors()
	code := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if after := descriptors(); code == 0 && len(after) > len(before) {
		fmt.Fprintf(os.Stderr, "descriptors are left open: before %v, after %v\n", before, after)
		code = 1
	}
	os.Exit(code)
}

// descriptors lists the open descriptors of the process.
func descriptors() []string {
	entries, _ := os.ReadDir("/proc/self/fd")
	var out []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			out = append(out, e.Name()+"="+to)
		}
	}
	return out
}

func identity(rank int) hello.Identity {
	return hello.Identity{JobID: "test", Secret: []byte("secret"), Rank: rank}
}

// world is the ports and transports of some ranks of this process.
type world struct {
	listeners  []*hello.Listener
	transports []*Transport
}

// newWorld starts n ranks on a loopback host; change may set what it likes in their configurations.
func newWorld(t testing.TB, n int, host string, change func(*Config)) *world {
	t.Helper()
	return newSecureWorld(t, n, host, nil, change)
}

// authority returns an authority for certificates, if there are to be some.
func authority(t testing.TB, wanted bool) *testcert.Authority {
	if !wanted {
		return nil
	}
	return testcert.NewAuthority(t)
}

// newSecureWorld is newWorld with TLS, unless the authority is nil.
func newSecureWorld(t testing.TB, n int, host string, a *testcert.Authority, change func(*Config)) *world {
	t.Helper()
	w := &world{}
	ids := make([]hello.Identity, n)
	for r := range ids {
		if ids[r] = identity(r); a != nil {
			ids[r].TLS = hello.NewTLS(a.Issue(nil), a.Roots())
		}
		l, err := hello.NewListener(hello.ListenOptions{Addr: host + ":0", Identity: ids[r]})
		if err != nil {
			t.Fatal(err)
		}
		w.listeners = append(w.listeners, l)
	}
	for r := range n {
		c := Config{Rank: r, Identity: ids[r], Listener: w.listeners[r], Peers: w.addrs, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
		if change != nil {
			change(&c)
		}
		w.transports = append(w.transports, New(c))
	}
	t.Cleanup(func() {
		for r := range n {
			w.transports[r].Close()
			w.listeners[r].Close()
		}
	})
	return w
}

func (w *world) addrs(rank int) []netip.AddrPort {
	if rank >= len(w.listeners) {
		return nil
	}
	return []netip.AddrPort{w.listeners[rank].Addr()}
}

// breakLink resets the connection, as the kernel may do when a process dies.
func breakLink(l transport.Link) {
	tl := l.(*Link)
	unix.SetsockoptLinger(tl.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	tl.fail(fmt.Errorf("broken by the test"))
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name, host    string
		send, receive int
		maxBytes      int // such sockets are slow
		tls           bool
	}{
		{"IPv4", "127.0.0.1", 0, 0, 0, false},
		{"IPv6", "[::1]", 0, 0, 300_007, false},
		{"tiny send buffer", "127.0.0.1", 1, 0, 20_011, false}, // the kernel's minimum, a few KiB: writes and reads end anywhere
		{"small receive buffer", "127.0.0.1", 30_011, 70_001, 300_007, false},
		{"TLS", "127.0.0.1", 0, 0, 0, true},
		{"TLS, tiny send buffer", "127.0.0.1", 1, 0, 20_011, true},
		{"TLS, small receive buffer", "127.0.0.1", 30_011, 70_001, 300_007, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.host == "[::1]" {
				requireIPv6(t)
			}
			transporttest.Run(t, transporttest.Implementation{
				Redirects: true,
				Allocates: c.tls,
				New: func(t testing.TB, n int) []transport.Transport {
					w := newSecureWorld(t, n, c.host, authority(t, c.tls), func(cfg *Config) { cfg.SendBuffer, cfg.ReceiveBuffer = c.send, c.receive })
					ts := make([]transport.Transport, n)
					for r := range ts {
						ts[r] = w.transports[r]
					}
					return ts
				},
				NewBell:  transporttest.NewSharedBell,
				Break:    breakLink,
				MaxBytes: c.maxBytes,
			})
		})
	}
}

// requireIPv6 skips on a machine without IPv6.
func requireIPv6(t *testing.T) {
	l, err := hello.NewListener(hello.ListenOptions{Addr: "[::1]:0"})
	if err != nil {
		testreq.Missing(t, "ipv6", "this machine has no IPv6 loopback: "+err.Error())
	}
	l.Close()
}
