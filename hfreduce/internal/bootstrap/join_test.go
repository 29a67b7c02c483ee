// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

func TestJoin(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		for n := 1; n <= 16; n++ {
			t.Run(fmt.Sprintf("%s/n=%d", host, n), func(t *testing.T) {
				cfg := job(t, n)
				cfg.Rendezvous = []string{net.JoinHostPort(host, freePort(t))}
				ss := world(t, cfg)
				for rank, s := range ss {
					checkPeers(t, rank, s.Peers(), n)
				}
				for rank, p := range ss[n-1].Peers() { // every candidate leads to its rank
					for _, addr := range p.Addrs {
						mustReach(t, addr.String(), cfg, rank)
					}
				}
				for rank, err := range closeAll(ss) {
					if err != nil {
						t.Errorf("close rank %d: %v", rank, err)
					}
				}
			})
		}
	}
}

func checkPeers(t *testing.T, rank int, peers []PeerInfo, n int) {
	t.Helper()
	if len(peers) != n {
		t.Fatalf("rank %d sees %d peers", rank, len(peers))
	}
	for i, p := range peers {
		if p.Rank != i || p.PID != os.Getpid() || p.Host != hostName() || p.HostID != HostID() {
			t.Errorf("rank %d sees peer %d as %+v", rank, i, p)
		}
		if len(p.Addrs) == 0 || !p.Addrs[0].Addr().IsLoopback() {
			t.Errorf("all ranks are on this host, but loopback is not the first of %v", p.Addrs)
		}
		for _, a := range p.Addrs {
			if a.Addr().IsLinkLocalUnicast() || a.Port() == 0 {
				t.Errorf("rank %d offers %v", i, a)
			}
		}
	}
}

// mustReach asks for a rank that does not exist; the refusal names the one that listens.
func mustReach(t *testing.T, addr string, cfg Config, rank int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, _, err := hello.Dial(ctx, addr, hello.Identity{JobID: cfg.JobID, Secret: cfg.Secret, Rank: 99},
		hello.Hello{Purpose: hello.Control, PeerRank: cfg.WorldSize + rank})
	if !errors.Is(err, hello.ErrRank) || !strings.Contains(err.Error(), fmt.Sprintf("rank %d, not", rank)) {
		t.Errorf("%s does not lead to rank %d: %v", addr, rank, err)
	}
}

func TestJoinManyRanks(t *testing.T) {
	begin := time.Now()
	ss := world(t, job(t, 128))
	met := time.Since(begin)
	closeAll(ss)
	t.Logf("128 ranks: join %v, close %v", met, time.Since(begin)-met)
}

func TestJoinWithoutSecretOrJobID(t *testing.T) {
	cfg := job(t, 3)
	cfg.JobID, cfg.Secret = "", nil
	world(t, cfg)
}

func TestJoinNamedHost(t *testing.T) {
	cfg := job(t, 3)
	cfg.Rendezvous = []string{"tcp://localhost:" + freePort(t)}
	world(t, cfg)
}

// Any host name but loopback makes rank 0 listen on all addresses, whatever the name means on its own host.
func TestBindAddress(t *testing.T) {
	for candidate, want := range map[string]string{
		"node0:4711": ":4711", "10.0.0.1:4711": ":4711", "[fd00::1]:4711": ":4711",
		"localhost:4711": "localhost:4711", "127.0.1.1:4711": "127.0.1.1:4711", "[::1]:4711": "[::1]:4711",
	} {
		if got := bindAddress(candidate); got != want {
			t.Errorf("%s binds %s, want %s", candidate, got, want)
		}
	}
}

func TestJoinNode(t *testing.T) {
	cfg := job(t, 4)
	var cfgs []Config
	for rank, node := range []string{"a", "b", "a", ""} {
		c := cfg.rankOf(rank)
		c.Node = node
		cfgs = append(cfgs, c)
	}
	for _, s := range sessions(t, joinAll(t.Context(), cfgs...)) {
		for rank, want := range []string{"a", "b", "a", HostID()} {
			if p := s.Peers()[rank]; p.HostID != want || !p.Addrs[0].Addr().IsLoopback() {
				t.Errorf("rank %d: host id %q, addresses %v", rank, p.HostID, p.Addrs)
			}
		}
	}
}

func TestJoinInterfaces(t *testing.T) {
	cfg := job(t, 2)
	cfg.Interfaces = []string{"127.0.0.0/8"}
	for _, p := range world(t, cfg)[0].Peers() {
		if len(p.Addrs) != 1 || p.Addrs[0].Addr().String() != "127.0.0.1" {
			t.Errorf("%v offers %v", p, p.Addrs)
		}
	}
	bad := job(t, 2).rankOf(1)
	bad.Interfaces = []string{"nonesuch0"}
	_, err := Join(t.Context(), bad)
	mustContain(t, err, "HFREDUCE_INTERFACES=nonesuch0", "this machine has lo (127.0.0.1/8")
}

func TestJoinInvalid(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Config)
		text   string
	}{
		{"world size 0", func(c *Config) { c.WorldSize = 0 }, "world size 0 is not within"},
		{"rank above", func(c *Config) { c.Rank = 2 }, "rank 2 is not within 0..1 (world size 2)"},
		{"rank below", func(c *Config) { c.Rank = -1 }, "rank -1 is not within"},
		{"no rendezvous", func(c *Config) { c.Rendezvous = nil }, "set HFREDUCE_RENDEZVOUS"},
		{"no port", func(c *Config) { c.Rendezvous = []string{"node0"} }, `rendezvous "node0"`},
		{"port 0", func(c *Config) { c.Rendezvous = []string{"node0:0"} }, `port "0"`},
		{"no host", func(c *Config) { c.Rendezvous = []string{":1"} }, "the host is missing"},
		{"scheme", func(c *Config) { c.Rendezvous = []string{"http://node0:1"} }, `unknown scheme "http"`},
		{"bare IPv6", func(c *Config) { c.Rendezvous = []string{"::1:4711"} }, "IPv6 as [address]:port"},
		{"long node", func(c *Config) { c.Node = strings.Repeat("x", 256) }, "the node name has 256 bytes"},
		{"port range", func(c *Config) { c.Rank, c.PortRange = 1, [2]int{9, 8} }, "port range 9-8"},
		{"interfaces", func(c *Config) { c.Rank, c.Interfaces = 1, []string{"[", "10.0.0.0/99"} }, "HFREDUCE_INTERFACES"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := job(t, 2)
			c.change(&cfg)
			_, err := Join(t.Context(), cfg)
			mustContain(t, err, "bootstrap: ", c.text)
		})
	}
}

func TestJoinRankZeroComesLast(t *testing.T) {
	cfg := job(t, 4)
	log := newLines()
	cfg.Logger = log.logger()
	early := make(chan []joined)
	go func() { early <- joinAll(context.Background(), cfg.rankOf(1), cfg.rankOf(2), cfg.rankOf(3)) }()
	log.await(t, "waiting for rank 0")
	log.await(t, "connection refused")
	zero, err := Join(t.Context(), cfg.rankOf(0))
	sessions(t, append([]joined{{zero, err}}, <-early...))
}

func TestJoinSaysWhoIsMissing(t *testing.T) {
	cfg := job(t, 16)
	log := newLines()
	cfg.Logger = log.logger()
	var early, late []Config
	for rank := range 16 {
		if rank == 3 || rank == 7 || rank >= 12 {
			late = append(late, cfg.rankOf(rank))
		} else {
			early = append(early, cfg.rankOf(rank))
		}
	}
	first := make(chan []joined)
	go func() { first <- joinAll(context.Background(), early...) }()
	log.await(t, "waiting for ranks 3, 7, 12-15 (10 of 16 arrived)")
	second := joinAll(t.Context(), late...)
	sessions(t, append(<-first, second...))
	log.await(t, "all ranks have met")
}

// Whoever's deadline passes first, all who have arrived hear the same, with the ranks that were missing.
func TestJoinDeadline(t *testing.T) {
	for first := range 3 {
		t.Run(fmt.Sprintf("rank %d gives up first", first), func(t *testing.T) {
			cfg := job(t, 5)
			log := newLines()
			cfg.Logger = log.logger()
			hasty, expire := context.WithCancelCause(t.Context())
			defer expire(nil)
			outcome := make(chan error)
			for rank := range 3 {
				ctx := t.Context()
				if rank == first {
					ctx = hasty
				}
				go func() { _, err := Join(ctx, cfg.rankOf(rank)); outcome <- err }()
			}
			log.await(t, "(3 of 5 arrived)")
			expire(fmt.Errorf("%w after a while", ErrTimeout))
			for range 3 {
				err := <-outcome
				mustContain(t, err, "waiting for ranks 3, 4 (3 of 5 arrived)", "timed out after a while")
				if !errors.Is(err, ErrTimeout) {
					t.Errorf("%v is no ErrTimeout", err)
				}
			}
		})
	}
}

// A rank that rank 0 does not answer any more still knows who was missing.
func TestJoinDeadlineWithSilentRankZero(t *testing.T) {
	mine, hubs := net.Pipe()
	defer hubs.Close()
	j := joining{cfg: job(t, 4).rankOf(1)}
	j.connect(mine)
	ctx, expire := context.WithCancelCause(t.Context())
	told := make(chan kind, 1)
	go func() {
		hubs.Write(waitingFrame("waiting for ranks 2, 3 (2 of 4 arrived)"))
		expire(ErrTimeout)
		k, _, _ := readFrame(hubs, maxUpFrame)
		told <- k
	}()
	_, again, err := j.await(ctx)
	if !again || err == nil || <-told != kindFailed {
		t.Errorf("await: again %v, %v", again, err)
	}
	j.wire.kill()
	err = j.unmet(ctx, &tries{})
	mustContain(t, err, "rank 1: the ranks did not meet: rank 0 said it was waiting for ranks 2, 3 (2 of 4 arrived): timed out")
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("%v is no ErrTimeout", err)
	}
}

func TestJoinUnreachable(t *testing.T) {
	cfg := job(t, 2).rankOf(1)
	cfg.Timeout = 100 * time.Millisecond
	cfg.Rendezvous = append(cfg.Rendezvous, "no-such-host.invalid:4711")
	_, err := Join(t.Context(), cfg)
	mustContain(t, err, "rank 1: rank 0 is unreachable", cfg.Rendezvous[0]+": connection refused", "no-such-host.invalid:4711: lookup", "100ms",
		"does a firewall block the port?")
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("%v is no ErrTimeout", err)
	}
}

// What failed alike is told once, and the remedy is that of the cause.
func TestUnreachableRemedy(t *testing.T) {
	job := fmt.Errorf("bootstrap: %w", hello.ErrJob)
	stranger := fmt.Errorf("bootstrap: %w", hello.ErrStranger)
	dns := fmt.Errorf("bootstrap: %w", &net.DNSError{Err: "no such host", Name: "n1"})
	for _, c := range []struct {
		causes       []error
		list, remedy string
	}{
		{[]error{dns, dns}, "n1:1, n1:2: lookup n1: no such host", "set HFREDUCE_RENDEZVOUS to rank 0's address"},
		{[]error{dns, nil}, "n1:1: lookup n1: no such host", "is rank 0 running"}, // the other was not tried to the end
		{[]error{job}, "n1:1: the port belongs to another hfreduce job", "one HFREDUCE_JOB_ID, or choose another port"},
		{[]error{stranger, stranger, stranger}, "n1:1, n1:2, n1:3: the port belongs to a program that is not hfreduce", "choose another port on all ranks"},
		{[]error{job, stranger, stranger, job}, "n1:1: the port belongs to another hfreduce job; n1:2, n1:3: the port belongs to a program that is not hfreduce; " +
			"n1:4: the port belongs to another hfreduce job", "is rank 0 running"},
		{[]error{nil, syscall.ECONNREFUSED}, "n1:2: connection refused", "does a firewall block the port?"},
		{nil, "", "is rank 0 running"},
	} {
		tried := tries{causes: c.causes, candidates: []string{"n1:1", "n1:2", "n1:3", "n1:4"}}
		if got := tried.String(); got != c.list {
			t.Errorf("%v: %q, want %q", c.causes, got, c.list)
		}
		if got := tried.remedy(); !strings.Contains(got, c.remedy) {
			t.Errorf("%v: %q, want %q", c.causes, got, c.remedy)
		}
	}
}

func TestJoinCancelled(t *testing.T) {
	why := errors.New("changed my mind")
	for _, rank := range []int{0, 1, 2} {
		t.Run(fmt.Sprint(rank), func(t *testing.T) {
			cfg := job(t, 3)
			log := newLines()
			cfg.Logger = log.logger()
			ctx, cancel := context.WithCancelCause(t.Context())
			outcome := make(chan []joined)
			cfgs := []Config{cfg.rankOf(0), cfg.rankOf(1)}
			if rank == 2 {
				cfgs = []Config{cfg.rankOf(2)} // finds nobody
			}
			go func() { outcome <- joinAll(ctx, cfgs...) }()
			log.await(t, "waiting for rank")
			cancel(why)
			for _, j := range <-outcome {
				if !errors.Is(j.err, why) && !strings.Contains(j.err.Error(), why.Error()) {
					t.Errorf("got %v", j.err)
				}
			}
		})
	}
}

func TestJoinRankComesBack(t *testing.T) {
	cfg := job(t, 3)
	log := newLines()
	cfg.Logger = log.logger()
	zero := make(chan []joined)
	go func() { zero <- joinAll(context.Background(), cfg.rankOf(0)) }()
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan []joined)
	go func() { gone <- joinAll(ctx, cfg.rankOf(2)) }()
	log.await(t, "waiting for rank 1 (2 of 3 arrived)")
	cancel()
	<-gone
	log.await(t, fmt.Sprintf("waiting for ranks 1, 2 (1 of 3 arrived); rank 2 had arrived (pid %d on %s) and left", os.Getpid(), hostName()))
	rest := joinAll(t.Context(), cfg.rankOf(1), cfg.rankOf(2))
	sessions(t, append(<-zero, rest...))
}
