// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/mem"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/tcp"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/transporttest"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustParse(t testing.TB, text string) *Plan {
	t.Helper()
	p, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// memWorld returns the transports of n ranks of this process.
func memWorld(t testing.TB, n int) []transport.Transport {
	w := mem.NewNetwork(n)
	ts := make([]transport.Transport, n)
	for r := range ts {
		ts[r] = w.Transport(r)
		t.Cleanup(func() { ts[r].Close() })
	}
	return ts
}

// tcpWorld returns the transports of n ranks over loopback.
func tcpWorld(t testing.TB, n int) []transport.Transport {
	listeners := make([]*hello.Listener, n)
	identity := func(rank int) hello.Identity { return hello.Identity{JobID: "fault", Rank: rank} }
	for r := range listeners {
		l, err := hello.NewListener(hello.ListenOptions{Addr: "127.0.0.1:0", Identity: identity(r)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		listeners[r] = l
	}
	addrs := func(rank int) []netip.AddrPort {
		if rank >= n {
			return nil
		}
		return []netip.AddrPort{listeners[rank].Addr()}
	}
	ts := make([]transport.Transport, n)
	for r := range ts {
		ts[r] = tcp.New(tcp.Config{
			Rank: r, Identity: identity(r), Listener: listeners[r], Peers: addrs,
			Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
		t.Cleanup(func() { ts[r].Close() })
	}
	return ts
}

func chanBell(t testing.TB) wait.Bell {
	b := wait.NewChan()
	t.Cleanup(func() { b.Close() })
	return b
}

// inner returns the link that a link with faults wraps.
func inner(l transport.Link) transport.Link {
	switch l := l.(type) {
	case *link:
		return l.Link
	case *redirecting:
		return l.Link
	}
	return l
}

// TestConformance: links with faults that never come, and with messages that are delayed, are as good as others.
func TestConformance(t *testing.T) {
	for kind, impl := range map[string]transporttest.Implementation{
		"mem": {New: memWorld, NewBell: chanBell},
		"tcp": {New: tcpWorld, NewBell: transporttest.NewSharedBell, Redirects: true},
	} {
		for name, text := range map[string]string{
			"never": "drop landing=4000000000; partition=0,2,4|1,3 after=1000000",
			"delay": "delay=100us p=0.3; delay=50us p=0.2",
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				plan, world, impl := mustParse(t, text), impl.New, impl
				impl.New = func(t testing.TB, n int) []transport.Transport {
					ts := world(t, n)
					for r := range ts {
						ts[r] = New(ts[r], Config{Plan: plan, Rank: r})
					}
					return ts
				}
				impl.Break = func(l transport.Link) { inner(l).(transport.Breaker).Break() }
				transporttest.Run(t, impl)
			})
		}
	}
}

// TestNothingIsWrappedWithoutNeed: a plan that does not mean a rank, or a link, costs it nothing.
func TestNothingIsWrappedWithoutNeed(t *testing.T) {
	ts := memWorld(t, 3)
	for text, wrapped := range map[string][3]bool{
		"":                      {},
		"seed=7":                {},
		"kill rank=0":           {},
		"drop rank=1 peer=2":    {false, true, true},
		"corrupt rank=0 peer=1": {true, true, false},
		"partition=0|2":         {true, false, true},
		"drop rank=0":           {true, true, true},
	} {
		for r, want := range wrapped {
			if got := New(ts[r], Config{Plan: mustParse(t, text), Rank: r}) != ts[r]; got != want {
				t.Errorf("%q, rank %d: wrapped is %v, want %v", text, r, got, want)
			}
		}
	}
	p := mustParse(t, "drop rank=0 peer=1; corrupt rank=1 peer=0; partition=0|2")
	for _, c := range []struct{ self, peer, out, in int }{{0, 1, 1, 1}, {1, 0, 0, 0}, {0, 2, 1, 0}, {2, 0, 1, 0}, {1, 2, 0, 0}} {
		if out, in := p.between(c.self, c.peer); len(out) != c.out || len(in) != c.in {
			t.Errorf("rank %d to %d: rules %v out, %v in; want %d and %d", c.self, c.peer, out, in, c.out, c.in)
		}
	}
}

// registering, selective and both have optional interfaces.
type registering struct{ transport.Transport }

func (registering) Register([]byte) (func() error, error) { return func() error { return nil }, nil }

type selective struct{ transport.Link }

func (selective) Sends([]byte) bool { return true }

type both struct {
	selective
	transport.Redirector
}

// TestOptionalInterfaces: what is wrapped has those that the inner one has, and no others.
func TestOptionalInterfaces(t *testing.T) {
	plan := mustParse(t, "drop p=0.5; corrupt")
	ts := memWorld(t, 2)
	for _, tt := range []transport.Transport{ts[0], registering{ts[0]}} {
		_, want := tt.(transport.Registrar)
		if _, has := New(tt, Config{Plan: plan}).(transport.Registrar); has != want {
			t.Errorf("%T: the wrapper is a Registrar: %v", tt, has)
		}
	}
	ends := memPair(t, "")
	faulty := &Transport{Transport: ts[0], cfg: Config{Plan: plan}, pairs: map[int]*pair{}}
	for _, in := range []transport.Link{
		ends[0].link, selective{ends[0].link}, &redirecting{newLink(faulty, ends[0].link, &transport.LinkConfig{}, nil, nil)},
		&both{selective{ends[0].link}, &redirecting{}},
	} {
		l := faulty.wrap(in, &transport.LinkConfig{}, []int{0}, []int{1})
		_, selects := in.(transport.Selective)
		_, redirects := in.(transport.Redirector)
		if _, has := l.(transport.Selective); has != selects {
			t.Errorf("%T: the wrapper is Selective: %v", in, has)
		}
		if _, has := l.(transport.Redirector); has != redirects {
			t.Errorf("%T: the wrapper is a Redirector: %v", in, has)
		}
	}
}

// probed is a link whose peer's host is silent.
type probed struct{ transport.Link }

func (probed) Alive(bound time.Duration) error {
	return fmt.Errorf("silent for %v: %w", bound, transport.ErrPeerLost)
}

// TestAlive: the inner link is asked, if it can be.
func TestAlive(t *testing.T) {
	plan := mustParse(t, "drop p=0.5")
	ends := memPair(t, "")
	faulty := &Transport{Transport: memWorld(t, 2)[0], cfg: Config{Plan: plan}, pairs: map[int]*pair{}}
	for _, in := range []transport.Link{ends[0].link, probed{ends[0].link}} {
		_, want := in.(transport.Prober)
		err := faulty.wrap(in, &transport.LinkConfig{}, []int{0}, nil).(transport.Prober).Alive(time.Second)
		if got := errors.Is(err, transport.ErrPeerLost); got != want || want && err.Error() != "silent for 1s: "+transport.ErrPeerLost.Error() {
			t.Errorf("%T: %v", in, err)
		}
	}
}
