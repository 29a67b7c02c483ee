// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/tcp"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/transporttest"
	"github.com/hfreduce/hfreduce/internal/testreq"
	"github.com/hfreduce/hfreduce/rdma"
)

// TestMain fails if a goroutine or an object of libibverbs is left at the end.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if left := rdma.Live(); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "left open:", left)
		code = 1
	}
	os.Exit(code)
}

// devices returns the machine's RDMA devices, or skips the test.
func devices(t testing.TB) []string {
	t.Helper()
	if err := rdma.Available(); err != nil {
		testreq.Missing(t, "verbs", err.Error())
	}
	infos, err := rdma.Devices()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range infos {
		names = append(names, d.Name)
	}
	return names
}

func identity(rank int) hello.Identity {
	return hello.Identity{JobID: "test", Secret: []byte("secret"), Rank: rank}
}

// newWorld starts n ranks of this process; change may set what it likes in their configurations.
func newWorld(t testing.TB, n int, change func(rank int, c *Config)) []*Transport {
	t.Helper()
	var listeners []*hello.Listener
	addrs := func(rank int) []netip.AddrPort {
		if rank >= n {
			return nil
		}
		return []netip.AddrPort{listeners[rank].Addr()}
	}
	for r := range n {
		l, err := hello.NewListener(hello.ListenOptions{Addr: "127.0.0.1:0", Identity: identity(r)})
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		t.Cleanup(func() { l.Close() })
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ts := make([]*Transport, n)
	for r := range ts {
		c := Config{
			Rank: r, GIDIndex: -1, NUMANode: -1, Networks: networks(t), Logger: log, Timeout: 14,
			Side: tcp.New(tcp.Config{Rank: r, Identity: identity(r), Listener: listeners[r], Peers: addrs, Logger: log}),
		}
		if change != nil {
			change(r, &c)
		}
		ts[r] = New(c)
		t.Cleanup(func() {
			if err := ts[r].Close(); err != nil {
				t.Errorf("close transport of rank %d: %v", r, err)
			}
		})
	}
	return ts
}

// networks returns the machine's addresses.
func networks(t testing.TB) (all []netip.Prefix) {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// arena is memory that all transports of a test have registered, given out in turn.
type arena struct {
	mem []byte
	mu  sync.Mutex
	at  int
}

func newArena(t testing.TB, bytes int) *arena {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return &arena{mem: mem}
}

func (a *arena) take(n int) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at+n > len(a.mem) {
		a.at = 0
	}
	b := a.mem[a.at : a.at+n : a.at+n]
	a.at += n
	return b
}

func (a *arena) register(t testing.TB, ts []*Transport) {
	t.Helper()
	for r, x := range ts {
		unregister, err := x.Register(a.mem)
		if err != nil {
			t.Fatalf("register with rank %d: %v", r, err)
		}
		t.Cleanup(func() {
			if err := unregister(); err != nil {
				t.Errorf("unregister with rank %d: %v", r, err)
			}
		})
	}
}

// implementation is the transport for the conformance suite.
func implementation(t *testing.T, change func(rank int, c *Config)) transporttest.Implementation {
	a := newArena(t, 32<<20)
	return transporttest.Implementation{
		New: func(t testing.TB, n int) []transport.Transport {
			ts := newWorld(t, n, change)
			a.register(t, ts)
			out := make([]transport.Transport, n)
			for r := range ts {
				out[r] = ts[r]
			}
			return out
		},
		NewBell: transporttest.NewSharedBell,
		Memory:  func(_ testing.TB, n int) []byte { return a.take(n) },
		Break: func(l transport.Link) {
			v := l.(*Link)
			v.Break()
			v.fail()
		},
		MaxBytes: 400_003,
	}
}

// TestConformance runs the suite over real queue pairs, of one device for each rank, of one device for both, and of
// several that take turns.
func TestConformance(t *testing.T) {
	names := devices(t)
	for kind, change := range map[string]func(rank int, c *Config){
		"a device each":     func(r int, c *Config) { c.Devices = []string{names[r%len(names)]} },
		"one device":        func(_ int, c *Config) { c.Devices = names[:1] },
		"three queue pairs": func(r int, c *Config) { c.Devices, c.QueuePairs = []string{names[r%len(names)]}, 3 },
		"two rails":         func(r int, c *Config) { c.Devices = []string{names[r%len(names)], names[(r+2)%len(names)]} },
	} {
		t.Run(kind, func(t *testing.T) {
			transporttest.Run(t, implementation(t, func(r int, c *Config) {
				c.Required = true
				change(r, c)
			}))
		})
	}
}

// TestConformanceOverTCP runs the suite with ranks that have no RDMA: they agree on TCP.
func TestConformanceOverTCP(t *testing.T) {
	impl := implementation(t, func(_ int, c *Config) { c.Devices = []string{"none"} })
	impl.Redirects = true
	impl.Break = nil // of these links, which package tcp tests
	transporttest.Run(t, impl)
}
