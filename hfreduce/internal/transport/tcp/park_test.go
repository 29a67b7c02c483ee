// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// dialTo says hello to a rank's port as another rank, and nothing more.
func dialTo(t *testing.T, w *world, from, to int, key string) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, _, err := hello.Dial(ctx, w.listeners[to].Addr().String(), identity(from), hello.Hello{Purpose: hello.Data, PeerRank: to, Token: []byte(key)})
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// parkAt opens a connection that stays parked, and waits until it is.
func parkAt(t *testing.T, w *world, from, to int, key string) net.Conn {
	t.Helper()
	conn, err := dialTo(t, w, from, to, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := sendOpen(conn); err != nil {
		t.Fatal(err)
	}
	lot := w.transports[to].lot
	until(t, "parked", func() bool {
		lot.mu.Lock()
		defer lot.mu.Unlock()
		p := lot.cars[place{from, key}]
		return p != nil && p.conn.RemoteAddr().String() == conn.LocalAddr().String()
	})
	return conn
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("not %s within 10 s", what)
		}
	}
}

// isClosed waits for the end of a connection.
func isClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("read %d bytes, %v; want the connection to be closed", n, err)
	}
}

func (w *world) parked(rank int) int {
	lot := w.transports[rank].lot
	lot.mu.Lock()
	defer lot.mu.Unlock()
	return len(lot.cars)
}

func TestParkExpires(t *testing.T) {
	w := newWorld(t, 2, "127.0.0.1", func(c *Config) { c.ParkTimeout = 20 * time.Millisecond })
	conn, err := dialTo(t, w, 0, 1, "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := sendOpen(conn); err != nil {
		t.Fatal(err)
	}
	isClosed(t, conn)
	until(t, "empty", func() bool { return w.parked(1) == 0 })
}

// TestParkWaitsForLateRank: how late a rank may be for a link is for those to say who wait for it.
func TestParkWaitsForLateRank(t *testing.T) {
	w := newWorld(t, 2, "127.0.0.1", nil)
	if end := w.transports[1].parkedUntil(); !end.IsZero() {
		t.Errorf("a rank that comes after %v finds no connection", time.Until(end))
	}
	conn := parkAt(t, w, 0, 1, "k")
	conn.SetReadDeadline(time.Now().Add(openWait + time.Second)) // longer than for the first frame
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection ended while it was parked: %v", err)
	}
	conn.SetReadDeadline(time.Time{})
	l, err := w.transports[1].Connect(t.Context(), 0, "k", transport.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := readOpen(conn); err != nil {
		t.Error(err)
	}
}

// TestParkDialerGone: a dialer that gives up leaves no trace, and its next attempt is not mixed up with the first.
func TestParkDialerGone(t *testing.T) {
	w := newWorld(t, 2, "127.0.0.1", nil)
	parkAt(t, w, 0, 1, "k").Close()
	until(t, "empty", func() bool { return w.parked(1) == 0 })
	meet(t, w, 0, 1, "k")
}

// TestParkReplaces: of two connections of one rank for one link the later one counts.
func TestParkReplaces(t *testing.T) {
	w := newWorld(t, 2, "127.0.0.1", nil)
	old := parkAt(t, w, 0, 1, "k")
	later := parkAt(t, w, 0, 1, "k")
	isClosed(t, old)
	if n := w.parked(1); n != 1 {
		t.Errorf("%d are parked", n)
	}
	l, err := w.transports[1].Connect(t.Context(), 0, "k", transport.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := readOpen(later); err != nil {
		t.Errorf("the later connection was not told that it is the link: %v", err)
	}
}

func TestParkFull(t *testing.T) {
	w := newWorld(t, 2, "127.0.0.1", func(c *Config) { c.MaxParked = 2 })
	parkAt(t, w, 0, 1, "a")
	b := parkAt(t, w, 0, 1, "b")
	if _, err := dialTo(t, w, 0, 1, "c"); !errors.Is(err, hello.ErrRefused) || !strings.Contains(err.Error(), errFull.Error()) {
		t.Errorf("a third connection: %v", err)
	}
	b.Close()
	until(t, "emptier", func() bool { return w.parked(1) == 1 })
	meet(t, w, 0, 1, "c")
}

// TestParkStrangers: connections that say hello and then something wrong, or nothing, are not parked.
func TestParkStrangers(t *testing.T) {
	w := newWorld(t, 3, "127.0.0.1", nil)
	for name, b := range map[string][]byte{
		"text":    []byte("GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n"),
		"message": frame(header{kind: kindMessage}, nil),
		"end":     nil,
	} {
		conn, err := dialTo(t, w, 0, 1, name)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(b)
		conn.(*net.TCPConn).CloseWrite()
		isClosed(t, conn)
	}
	counted := func(n uint64) func() bool {
		return func() bool {
			s := w.listeners[1].Stats()
			return s.Of(hello.KindNonsense) == n
		}
	}
	until(t, "counted", counted(2)) // who closed said nothing wrong
	talker := parkAt(t, w, 0, 1, "talks too early")
	talker.Write([]byte("x"))
	isClosed(t, talker)
	until(t, "counted, too", counted(3))
	if n := w.parked(1); n != 0 {
		t.Errorf("%d are parked", n)
	}
	if _, err := dialTo(t, w, 2, 1, "k"); !errors.Is(err, hello.ErrRefused) {
		t.Errorf("the larger rank dialled: %v", err)
	}
	if _, err := dialTo(t, w, 0, 1, strings.Repeat("k", maxKey+1)); !errors.Is(err, hello.ErrRefused) {
		t.Errorf("a key that is too long: %v", err)
	}
	meet(t, w, 0, 1, strings.Repeat("k", maxKey))
}

func TestConnectKeyTooLong(t *testing.T) {
	w := newWorld(t, 2, "127.0.0.1", nil)
	for rank := range 2 {
		if _, err := w.transports[rank].Connect(t.Context(), 1-rank, strings.Repeat("k", maxKey+1), transport.LinkConfig{}); err == nil {
			t.Errorf("rank %d: no error", rank)
		}
	}
}

// TestConnectTwice: two Connects of one rank for the same link are a mistake; one of them is told.
func TestConnectTwice(t *testing.T) {
	w := newWorld(t, 2, "127.0.0.1", nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	results := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := w.transports[1].Connect(ctx, 0, "k", transport.LinkConfig{})
			results <- err
		}()
	}
	if err := <-results; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("the other one got %v", err)
	}
}

// TestDialerToldOfEnd: a dialer whose peer closes its transport gets an error.
func TestDialerToldOfEnd(t *testing.T) {
	w := newWorld(t, 2, "127.0.0.1", nil)
	failed := make(chan error, 1)
	go func() {
		_, err := w.transports[0].Connect(t.Context(), 1, "k", transport.LinkConfig{})
		failed <- err
	}()
	until(t, "parked", func() bool { return w.parked(1) == 1 })
	w.transports[1].Close()
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "rank 1") {
		t.Errorf("got %v", err)
	}
}
