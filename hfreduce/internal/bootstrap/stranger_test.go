// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// annoy sends a port every kind of stranger and returns the connections that stay open.
func annoy(t *testing.T, addr string, cfg Config) []net.Conn {
	t.Helper()
	says := []string{
		"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "SSH-2.0-x\r\n",
		"\x00\xff\x13\x37 random bytes", "HFRD", "HFRD\x00\x01\x00\x4a half a hello", "HFRD\x00\x07\x00\x00", "HFRD\x00\x01\xff\xff",
	}
	for range 200 {
		says = append(says, "") // silent
	}
	var conns []net.Conn
	for _, s := range says {
		conn, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, s)
		conns = append(conns, conn)
	}
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	stranger := func(change func(*hello.Identity, *hello.Hello), want error) {
		id := hello.Identity{JobID: cfg.JobID, Secret: cfg.Secret, Rank: 1}
		h := hello.Hello{Purpose: hello.Control, PeerRank: 0, Token: []byte("no arrival")}
		change(&id, &h)
		if _, _, err := hello.Dial(t.Context(), addr, id, h); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	stranger(func(id *hello.Identity, _ *hello.Hello) { id.JobID = "other" }, hello.ErrJob)
	stranger(func(id *hello.Identity, _ *hello.Hello) { id.Secret = []byte("guess") }, hello.ErrSecret)
	stranger(func(id *hello.Identity, _ *hello.Hello) { id.Secret = nil }, hello.ErrSecret)
	stranger(func(_ *hello.Identity, h *hello.Hello) { h.PeerRank = 5 }, hello.ErrRank)
	stranger(func(*hello.Identity, *hello.Hello) {}, hello.ErrRefused) // proves itself, then talks nonsense
	return conns
}

// Strangers at the rendezvous neither break it nor hold it up, and neither do they later.
func TestStrangersAtTheRendezvous(t *testing.T) {
	cfg := job(t, 4)
	log := newLines()
	cfg.Logger = log.logger()
	zero := make(chan []joined)
	go func() { zero <- joinAll(context.Background(), cfg.rankOf(0)) }()
	log.await(t, "(1 of 4 arrived)")
	annoy(t, cfg.Rendezvous[0], cfg)
	begin := time.Now()
	rest := joinAll(t.Context(), cfg.rankOf(1), cfg.rankOf(2), cfg.rankOf(3))
	if d := time.Since(begin); d > hello.DefaultHelloTimeout/2 {
		t.Errorf("the strangers held the ranks up for %v", d)
	}
	ss := sessions(t, append(<-zero, rest...))
	annoy(t, cfg.Rendezvous[0], cfg)
	mustExchange(t, ss, "undisturbed", []int{0, 1, 2, 3})
	for _, err := range closeAll(ss) {
		if err != nil {
			t.Error(err)
		}
	}
	if s := ss[0].Listener().Stats(); s.Accepted != 3 || s.Total() < 2*200 {
		t.Errorf("%+v", s)
	}
}

// Ranks that were given different job ids: both sides' errors say so.
func TestOtherJobID(t *testing.T) {
	cfg := job(t, 2)
	cfg.Timeout = time.Second
	log := newLines()
	cfg.Logger = log.logger()
	zero := make(chan error, 1)
	go func() { _, err := Join(context.Background(), cfg.rankOf(0)); zero <- err }()
	log.await(t, "(1 of 2 arrived)")
	other := cfg.rankOf(1)
	other.JobID, other.Timeout = "other", 200*time.Millisecond
	_, err := Join(t.Context(), other)
	mustContain(t, err, "belongs to another hfreduce job", "start all ranks with one HFREDUCE_JOB_ID")
	mustContain(t, <-zero, "waiting for rank 1", "turned away: a rank of another job from 127.0.0.1:", "its HFREDUCE_JOB_ID is another")
}

// A member that sends nonsense after the hello is cut off as lost; the others go on.
func TestNonsenseFromAMember(t *testing.T) {
	tooMuch := make([]byte, frameHead)
	copy(tooMuch, "\xff\xff\xff\xff\x04")
	for name, frame := range map[string][]byte{
		"unknown kind":  newFrame(99, nil),
		"hub's kind":    newFrame(kindTable, nil),
		"bad exchange":  newFrame(kindExchange, []byte("x")),
		"not a member":  exchangeFrame("k", []int{0, 1}, nil),
		"beyond world":  exchangeFrame("k", []int{2, 77}, nil),
		"bad abort":     newFrame(kindAbort, []byte{1}),
		"absurd length": tooMuch,
	} {
		t.Run(name, func(t *testing.T) {
			ss := world(t, job(t, 3))
			zero, one := watch(ss[0]), watch(ss[1])
			ss[2].wire.send(frame)
			for _, c := range []chan Event{zero, one} {
				if e := next(t, c); e.Kind != PeerLost || e.Rank != 2 {
					t.Errorf("got %+v", e)
				}
			}
			mustExchange(t, ss[:2], "the others", []int{0, 1})
		})
	}
}

// mustExchange runs one exchange over the sessions, which must be those of members.
func mustExchange(t *testing.T, ss []*Session, key string, members []int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for i, s := range ss {
		wg.Go(func() {
			parts, err := s.Exchange(ctx, key, members, []byte{byte(members[i]), 'x'})
			if err != nil {
				t.Errorf("rank %d: %v", s.rank, err)
				return
			}
			for k, m := range members {
				if string(parts[k]) != string([]byte{byte(m), 'x'}) {
					t.Errorf("rank %d got %q from rank %d", s.rank, parts[k], m)
				}
			}
		})
	}
	wg.Wait()
}
