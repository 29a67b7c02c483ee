// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	// Names are looked up without the machine's name servers, which may be slow, absent or too helpful.
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errNoDNS
	}}
	goleak.VerifyTestMain(m)
}

var errNoDNS = errors.New("tests have no name server")

// patience bounds what should take no time; only a broken test waits so long.
const patience = 20 * time.Second

// hurry is the pace of tests.
var hurry = pace{
	firstLine: 20 * time.Millisecond, nextLine: 50 * time.Millisecond, refresh: 10 * time.Millisecond,
	attempt: 2 * time.Second, hopeless: 200 * time.Millisecond, backoff: 20 * time.Millisecond, succession: 3 * time.Second,
}

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

var nextPort atomic.Int64

// freePort returns a port that nobody listens on. It is below the range from which the kernel serves port 0, so that
// neither the ranks' own ports nor outgoing connections can take it meanwhile.
func freePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := fmt.Sprint(12000 + (int64(os.Getpid())*97+nextPort.Add(1))%18000)
		l, err := net.Listen("tcp", ":"+port)
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

// job is a configuration for all ranks of a test; rank is filled in.
func job(t testing.TB, n int) Config {
	return Config{
		WorldSize: n, Rendezvous: []string{"127.0.0.1:" + freePort(t)}, JobID: t.Name(), Secret: []byte("s3cret"),
		Timeout: patience, pace: hurry,
	}
}

// rankOf returns the configuration of one rank.
func (c Config) rankOf(rank int) Config {
	c.Rank = rank
	return c
}

// joined is the outcome of one Join.
type joined struct {
	s   *Session
	err error
}

// joinAll runs all configurations at once and returns their outcomes in the same order.
func joinAll(ctx context.Context, cfgs ...Config) []joined {
	out := make([]joined, len(cfgs))
	var wg sync.WaitGroup
	for i, c := range cfgs {
		wg.Go(func() { out[i].s, out[i].err = Join(ctx, c) })
	}
	wg.Wait()
	return out
}

// world joins all ranks of a job, and closes them when the test ends.
func world(t testing.TB, cfg Config) []*Session {
	t.Helper()
	cfgs := make([]Config, cfg.WorldSize)
	for rank := range cfgs {
		cfgs[rank] = cfg.rankOf(rank)
	}
	return sessions(t, joinAll(context.Background(), cfgs...))
}

// sessions fails the test if any Join failed.
func sessions(t testing.TB, all []joined) []*Session {
	t.Helper()
	ss := make([]*Session, len(all))
	for rank, j := range all {
		ss[rank] = j.s
		if j.err != nil {
			t.Errorf("rank %d: %v", rank, j.err)
		}
	}
	t.Cleanup(func() { closeAll(ss) })
	if t.Failed() {
		t.FailNow()
	}
	return ss
}

// closeAll closes what is open and returns the errors.
func closeAll(ss []*Session) []error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	errs := make([]error, len(ss))
	var wg sync.WaitGroup
	for i, s := range ss {
		if s != nil {
			wg.Go(func() { errs[i] = s.Close(ctx) })
		}
	}
	wg.Wait()
	return errs
}

// cut ends a rank without a goodbye, as the end of its process would.
func (s *Session) cut() {
	s.end()
	s.listener.Close()
	s.mu.Lock()
	w, h := s.wire, s.hub
	s.mu.Unlock()
	w.kill()
	<-s.ended
	if h != nil {
		h.close()
	}
}

// watch collects the events of a rank.
func watch(s *Session) chan Event {
	c := make(chan Event, 1024)
	s.Subscribe(func(e Event) { c <- e })
	return c
}

func next(t *testing.T, c chan Event) Event {
	t.Helper()
	select {
	case e := <-c:
		return e
	case <-time.After(patience):
		t.Fatal("no event")
		return Event{}
	}
}

func mustContain(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v\nwant %q in it", err, text)
		}
	}
}
