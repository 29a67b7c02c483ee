// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain is also the main of a process that a test starts.
func TestMain(m *testing.M) {
	if os.Getenv(poorEnv) != "" {
		if err := poor(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what should take no time; only a broken test waits so long.
const patience = 10 * time.Second

// lines is a log that can be awaited.
type lines struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{}, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// await waits until the log contains text.
func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	limit := time.After(patience)
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.more:
		case <-limit:
			t.Fatalf("the log never said %q:\n%s", text, l)
		}
	}
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// start listens on loopback until the test ends.
func start(t *testing.T, opts ListenOptions) *Listener {
	t.Helper()
	if opts.Addr == "" {
		opts.Addr = "127.0.0.1:0"
	}
	l, err := NewListener(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// met is what a handler was given.
type met struct {
	hello Hello
	conn  net.Conn
}

// collect returns a handler that hands over to a channel.
func collect() (Handler, chan met) {
	c := make(chan met, 64)
	return Handler{Serve: func(h Hello, conn net.Conn) { c <- met{h, conn} }}, c
}

// echo returns a handler that sends back what comes.
func echo() Handler {
	return Handler{Serve: func(_ Hello, conn net.Conn) {
		io.Copy(conn, conn)
		conn.Close()
	}}
}

func dial(t *testing.T, l *Listener, id Identity, h Hello) (net.Conn, Hello, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, answer, err := Dial(ctx, l.Addr().String(), id, h)
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, answer, err
}

// mustTalk proves that both directions of a fresh connection are at their first byte.
func mustTalk(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	got := make([]byte, 5)
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Fatalf("read %q, %v", got, err)
	}
}

// raw connects without a hello.
func raw(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", l.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// readAll reads to the end; a reset counts as one.
func readAll(t *testing.T, conn net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the connection was not closed")
	}
	return string(b)
}
