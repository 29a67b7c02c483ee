// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/transporttest"
)

// linked returns the two ends of a link between ranks 0 and 1.
func linked(t *testing.T, w *world) (a, b *Link) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan transport.Link, 1)
	go func() {
		l, err := w.transports[1].Connect(ctx, 0, "k", transport.LinkConfig{Bell: transporttest.NewSharedBell(t), Window: 1, Landings: [][]byte{make([]byte, 64<<20)}})
		if err != nil {
			t.Error(err)
		}
		done <- l
	}()
	l, err := w.transports[0].Connect(ctx, 1, "k", transport.LinkConfig{Bell: transporttest.NewSharedBell(t)})
	if err != nil {
		t.Fatal(err)
	}
	other := <-done
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() { l.Close(); other.Close() })
	return l.(*Link), other.(*Link)
}

// TestPeerThatDoesNotReadIsAlive: data is under way, the window is closed, and nothing is read. The host answers.
func TestPeerThatDoesNotReadIsAlive(t *testing.T) {
	a, b := linked(t, newWorld(t, 2, "127.0.0.1", func(c *Config) { c.SendBuffer, c.ReceiveBuffer = 30_000, 30_000 }))
	b.Grant(1)
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for a.Limit() == 0 && time.Now().Before(deadline) {
		if _, err := a.Poll(make([]transport.Event, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Post(transport.Message{Payload: make([]byte, 64<<20)}); err != nil {
		t.Fatal(err)
	}
	for looks := 0; looks < 20 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := a.Poll(make([]transport.Event, 1)); err != nil {
			t.Fatal(err)
		}
		if s, err := pulse.Look(a.fd); err != nil || s.Unsent == 0 {
			continue // the window is still open
		}
		looks++
		if err := errors.Join(a.Alive(pulse.Usual), b.Alive(pulse.Usual)); err != nil {
			t.Fatalf("look %d: %v", looks, err)
		}
	}
}

// TestSilentPeerBreaksTheLink plays a silence to the monitor that no loopback has, and looks at how the link breaks.
func TestSilentPeerBreaksTheLink(t *testing.T) {
	a, _ := linked(t, newWorld(t, 2, "127.0.0.1", nil))
	if err := a.Alive(time.Nanosecond); err != nil {
		t.Fatalf("a peer that answers: %v", err)
	}
	begin := time.Now()
	lost := pulse.State{Unacked: 1, Retransmits: 3, Heard: time.Hour}
	a.monitor.Silent(lost, begin)
	err := a.judge(lost, begin.Add(9*time.Second), 8*time.Second)
	checkDeathOf(t, err, 1, "its host has acknowledged nothing of what rank 0 sent for 9s")
	if again := a.Alive(time.Hour); again != err {
		t.Errorf("the error is not sticky: %v", again)
	}
	if _, again := a.Poll(make([]transport.Event, 1)); again != err {
		t.Errorf("Poll returned %v", again)
	}
}

func checkDeathOf(t *testing.T, err error, peer int, text string) {
	t.Helper()
	var pe *transport.PeerError
	if !errors.As(err, &pe) || !errors.Is(err, transport.ErrPeerLost) || pe.Peer != peer || pe.Addr == "" || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want a PeerError of rank %d with %q", err, peer, text)
	}
}

// TestSilentAddressIsLost: a SYN that nobody answers is a lost host, as soon as the bound says.
func TestSilentAddressIsLost(t *testing.T) {
	fd, addr := fullQueue(t)
	defer unix.Close(fd)
	w := newWorld(t, 2, "127.0.0.1", func(c *Config) {
		c.Heartbeat = 300 * time.Millisecond
		c.Peers = func(int) []netip.AddrPort { return []netip.AddrPort{addr} }
	})
	_, err := w.transports[0].Connect(t.Context(), 1, "k", transport.LinkConfig{Bell: transporttest.NewSharedBell(t)})
	checkDeathOf(t, err, 1, "its host did not answer rank 0 for 300ms")
}

// fullQueue returns a listening socket whose queue is full, so that the kernel drops what tries to connect.
func fullQueue(t *testing.T) (fd int, addr netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
	for range 8 {
		conn, err := net.DialTimeout("tcp", addr.String(), 200*time.Millisecond)
		if err != nil {
			return fd, addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue of a listener with a backlog of 0 does not fill")
	return fd, addr
}

func TestUnreachable(t *testing.T) {
	dial := func(err error) error { return fmt.Errorf("hello: %w", &net.OpError{Op: "dial", Err: err}) }
	for _, c := range []struct {
		name string
		errs []error
		want bool
	}{
		{"nothing tried", nil, false},
		{"no answer", []error{dial(os.ErrDeadlineExceeded)}, true},
		{"no route", []error{dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), dial(os.ErrDeadlineExceeded)}, true},
		{"a host without the port", []error{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), dial(os.ErrDeadlineExceeded)}, false},
		{"a process that is stopped", []error{fmt.Errorf("no answer to the hello: %w", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded})}, false},
	} {
		e := &dialError{peer: 1}
		for _, err := range c.errs {
			e.failures = append(e.failures, failure{err: err})
		}
		if got := e.unreachable(); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}
