// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/transporttest"
)

// attempt is how an address of TestRace behaves.
type attempt struct {
	after time.Duration
	err   error
}

// fakeConn is a connection that can only be closed.
type fakeConn struct {
	net.Conn
	of     int
	closed bool
}

func (c *fakeConn) Close() error { c.closed = true; return nil }

func TestRace(t *testing.T) {
	bad, ms, never := errors.New("bad"), time.Millisecond, time.Hour
	for name, c := range map[string]struct {
		attempts []attempt
		winner   int // -1: none
		failed   int
		takes    time.Duration
	}{
		"first":                 {[]attempt{{10 * ms, nil}, {0, nil}}, 0, 0, 10 * ms},
		"second at once":        {[]attempt{{10 * ms, bad}, {10 * ms, nil}}, 1, 1, 20 * ms},
		"second after its time": {[]attempt{{never, bad}, {10 * ms, nil}}, 1, 0, 210 * ms},
		"slow first wins":       {[]attempt{{250 * ms, nil}, {100 * ms, nil}}, 0, 0, 250 * ms},
		"quick second wins":     {[]attempt{{400 * ms, nil}, {100 * ms, nil}}, 1, 0, 300 * ms},
		"third":                 {[]attempt{{never, nil}, {never, nil}, {0, nil}}, 2, 0, 400 * ms},
		"failure starts next":   {[]attempt{{never, nil}, {10 * ms, bad}, {0, nil}}, 2, 1, 210 * ms},
		"none":                  {[]attempt{{10 * ms, bad}, {500 * ms, bad}, {5 * ms, bad}}, -1, 3, 510 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conns := make([]*fakeConn, len(c.attempts))
				addrs := make([]netip.AddrPort, len(c.attempts))
				for i := range addrs {
					addrs[i] = netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(i))
				}
				began := time.Now()
				conn, failures := race(t.Context(), addrs, 200*ms, func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
					try := c.attempts[a.Port()]
					select {
					case <-time.After(try.after):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					if try.err != nil {
						return nil, try.err
					}
					conns[a.Port()] = &fakeConn{of: int(a.Port())}
					return conns[a.Port()], nil
				})
				winner := -1
				if conn != nil {
					winner = conn.(*fakeConn).of
				}
				if took := time.Since(began); winner != c.winner || len(failures) != c.failed || took != c.takes {
					t.Errorf("winner %d after %v, failures %v; want %d after %v, %d failures", winner, took, failures, c.winner, c.takes, c.failed)
				}
				for i, k := range conns {
					if k != nil && k.closed != (i != winner) {
						t.Errorf("connection %d: closed is %v", i, k.closed)
					}
				}
			})
		})
	}
}

// TestRaceLoserCloses: a connection that is ready although its attempt was called off is closed.
func TestRaceLoserCloses(t *testing.T) {
	conns := [2]*fakeConn{{of: 0}, {of: 1}}
	second := make(chan struct{})
	addrs := []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), 0), netip.AddrPortFrom(netip.IPv4Unspecified(), 1)}
	conn, _ := race(t.Context(), addrs, time.Nanosecond, func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		if a.Port() == 0 {
			<-second // both are under way
			return conns[0], nil
		}
		close(second)
		<-ctx.Done() // the first has won
		return conns[1], nil
	})
	if conn != conns[0] || conns[0].closed || !conns[1].closed {
		t.Errorf("winner %v, closed %v and %v", conn, conns[0].closed, conns[1].closed)
	}
}

// closedPort returns an address that nobody listens on.
func closedPort(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestDialOtherCandidates: addresses where nobody or somebody else answers are passed over; if none is left, the error
// says of each why.
func TestDialOtherCandidates(t *testing.T) {
	other, err := hello.NewListener(hello.ListenOptions{Addr: "127.0.0.1:0", Identity: hello.Identity{JobID: "other job", Secret: []byte("s"), Rank: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var bad, good []netip.AddrPort
	w := newWorld(t, 3, "127.0.0.1", func(c *Config) {
		c.Peers = func(rank int) []netip.AddrPort { return append(bad, good...) }
	})
	bad = []netip.AddrPort{closedPort(t), w.listeners[2].Addr(), other.Addr()}
	_, err = w.transports[0].Connect(t.Context(), 1, "k", transport.LinkConfig{Bell: transporttest.NewSharedBell(t)})
	for _, want := range []error{hello.ErrRank, hello.ErrJob} {
		if !errors.Is(err, want) {
			t.Errorf("%v does not wrap %v", err, want)
		}
	}
	for _, a := range bad {
		if err == nil || !strings.Contains(err.Error(), a.String()) {
			t.Errorf("the error does not name %v: %v", a, err)
		}
	}
	good = []netip.AddrPort{w.listeners[1].Addr()}
	meet(t, w, 0, 1, "k")
}

// meet connects two ranks and closes the links.
func meet(t *testing.T, w *world, a, b int, key string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	bells := [2]transport.LinkConfig{{Bell: transporttest.NewSharedBell(t)}, {Bell: transporttest.NewSharedBell(t)}}
	done := make(chan error, 1)
	go func() {
		l, err := w.transports[b].Connect(ctx, a, key, bells[1])
		if err == nil {
			l.Close()
		}
		done <- err
	}()
	l, err := w.transports[a].Connect(ctx, b, key, bells[0])
	if err == nil {
		l.Close()
	}
	if err2 := <-done; err != nil || err2 != nil {
		t.Fatalf("ranks %d and %d did not meet: %v; %v", a, b, err, err2)
	}
}

// TestDialInCrowd: a peer that ends connections during the hello, as a crowded port may, is tried again.
func TestDialInCrowd(t *testing.T) {
	w := newWorld(t, 2, "127.0.0.1", nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() { // closes three connections, and passes the fourth on
		defer close(done)
		for i := range 4 {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			if i < 3 {
				in.Close()
				continue
			}
			out, err := net.Dial("tcp", w.listeners[1].Addr().String())
			if err != nil {
				in.Close()
				return
			}
			back := make(chan struct{})
			// The bare Writer keeps io.Copy from a pipe, whose descriptors it would keep.
			go func() { defer close(back); io.Copy(struct{ io.Writer }{in}, out); in.Close() }()
			io.Copy(struct{ io.Writer }{out}, in)
			out.Close()
			<-back
		}
	}()
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	w.transports[0].cfg.Peers = func(int) []netip.AddrPort { return []netip.AddrPort{addr} }
	meet(t, w, 0, 1, "k")
	ln.Close()
	<-done
}
