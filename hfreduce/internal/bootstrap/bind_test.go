// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/internal/testcert"
)

// A job that meets on loopback listens nowhere else, whatever its rank and with whatever secret.
func TestLoopbackJobListensOnLoopback(t *testing.T) {
	for _, secret := range []string{"", "s3cret"} {
		cfg := job(t, 3)
		cfg.Secret = []byte(secret)
		for rank, s := range world(t, cfg) {
			if a := s.Listener().Addr(); !a.Addr().IsLoopback() {
				t.Errorf("rank %d listens on %v", rank, a)
			}
		}
	}
}

func TestLonelyRankListensOnLoopback(t *testing.T) {
	cfg := job(t, 1)
	cfg.Rendezvous = []string{"192.0.2.1:4711"} // nobody's
	if a := world(t, cfg)[0].Listener().Addr(); !a.Addr().IsLoopback() {
		t.Errorf("it listens on %v", a)
	}
}

func TestListenHost(t *testing.T) {
	one := []string{"127.0.0.0/8"} // the loopback interface has exactly one such address
	for _, c := range []struct {
		name       string
		rendezvous []string
		interfaces []string
		want       string
	}{
		{"loopback", []string{"127.0.0.1:1"}, nil, "127.0.0.1"},
		{"localhost", []string{"localhost:1"}, nil, "localhost"},
		{"loopback, IPv6", []string{"[::1]:1", "127.0.0.1:2"}, nil, "::1"},
		{"another host", []string{"10.0.0.1:1"}, nil, ""},
		{"a name", []string{"node7:1"}, nil, ""},
		{"one of several is another host", []string{"127.0.0.1:1", "10.0.0.1:1"}, nil, ""},
		{"one interface with one address", []string{"10.0.0.1:1"}, one, "127.0.0.1"},
		{"one address on loopback", []string{"127.0.0.1:1"}, one, "127.0.0.1"},
	} {
		got, err := listenHost(&Config{Rank: 1, WorldSize: 2, Rendezvous: c.rendezvous, Interfaces: c.interfaces})
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
	if _, err := listenHost(&Config{WorldSize: 2, Rendezvous: []string{"10.0.0.1:1"}, Interfaces: []string{"nosuch0"}}); err == nil {
		t.Error("an interface that is not there was taken")
	}
}

// Only a job that others can reach and that asks them for nothing is warned of, by rank 0.
func TestUnauthenticatedJobIsWarnedOf(t *testing.T) {
	a := testcert.NewAuthority(t)
	secure := hello.NewTLS(a.Issue(nil), a.Roots())
	all, err := interfaces()
	if err != nil {
		t.Fatal(err)
	}
	addresses, _ := candidates(all, nil, netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
	for _, c := range []struct {
		name string
		cfg  Config
		want bool
	}{
		{"loopback, and one of its addresses", Config{WorldSize: 2, Rendezvous: []string{"127.0.0.1:1"}, Interfaces: []string{"127.0.0.0/8"}}, false},
		{"loopback, and all interfaces", Config{WorldSize: 2, Rendezvous: []string{"127.0.0.1:1"}, Interfaces: []string{"*"}}, len(addresses) > 1},
		{"open", Config{WorldSize: 2, Rendezvous: []string{"10.0.0.1:1"}}, true},
		{"another rank", Config{Rank: 1, WorldSize: 2, Rendezvous: []string{"10.0.0.1:1"}}, false},
		{"alone", Config{WorldSize: 1, Rendezvous: []string{"10.0.0.1:1"}}, false},
		{"loopback", Config{WorldSize: 2, Rendezvous: []string{"127.0.0.1:1"}}, false},
		{"secret", Config{WorldSize: 2, Rendezvous: []string{"10.0.0.1:1"}, Secret: []byte("x")}, false},
		{"TLS", Config{WorldSize: 2, Rendezvous: []string{"10.0.0.1:1"}, TLS: secure}, false},
	} {
		log := newLines()
		c.cfg.Logger = log.logger()
		(&joining{cfg: c.cfg}).warnOpen()
		if got := strings.Contains(log.String(), "HFREDUCE_SECRET_FILE"); got != c.want {
			t.Errorf("%s: warned %t: %s", c.name, got, log)
		}
	}
}

// The control channel over TLS does all that it does without: it meets, exchanges, tells of losses and says goodbye.
func TestTLSSession(t *testing.T) {
	a := testcert.NewAuthority(t)
	cfg := job(t, 4)
	cfgs := make([]Config, cfg.WorldSize)
	for rank := range cfgs {
		cfgs[rank] = cfg.rankOf(rank)
		cfgs[rank].TLS = hello.NewTLS(a.Issue(nil), a.Roots())
	}
	ss := sessions(t, joinAll(t.Context(), cfgs...))
	mustExchange(t, ss, "all", []int{0, 1, 2, 3})
	events := watch(ss[1])
	if conn, ok := ss[1].wire.conn.(*hello.Secure); !ok {
		t.Errorf("the control channel is a %T", ss[1].wire.conn)
	} else if from, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err != nil || !from.Addr().IsLoopback() {
		t.Errorf("its address is %v, %v", from, err)
	}
	ss[3].cut()
	if e := next(t, events); e.Kind != PeerLost || e.Rank != 3 {
		t.Errorf("got %+v", e)
	}
	mustExchange(t, ss[:3], "the others", []int{0, 1, 2})
	for rank, err := range closeAll(ss[:3]) {
		if err != nil {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// Rank 0 without TLS and rank 1 with it, or the other way round: rank 1 gives up at once, and both errors say why.
func TestTLSOnOneSide(t *testing.T) {
	a := testcert.NewAuthority(t)
	for _, with := range []int{0, 1} {
		cfg := job(t, 2)
		cfg.Timeout = 3 * time.Second
		cfgs := []Config{cfg.rankOf(0), cfg.rankOf(1)}
		cfgs[with].TLS = hello.NewTLS(a.Issue(nil), a.Roots())
		for _, j := range joinAll(t.Context(), cfgs...) {
			mustContain(t, j.err, "TLS", "HFREDUCE_TLS_CERT")
		}
	}
}

// A port with TLS that is in use is recognised by a rank 0 without, and the other way round.
func TestRendezvousPortHeldByTLS(t *testing.T) {
	a := testcert.NewAuthority(t)
	l, err := hello.NewListener(hello.ListenOptions{Addr: "127.0.0.1:0", Identity: hello.Identity{JobID: t.Name(), TLS: hello.NewTLS(a.Issue(nil), a.Roots())}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := job(t, 2)
	cfg.Secret, cfg.Rendezvous = nil, []string{l.Addr().String()}
	_, err = Join(t.Context(), cfg.rankOf(0))
	mustContain(t, err, "is in use by", "TLS")
}
