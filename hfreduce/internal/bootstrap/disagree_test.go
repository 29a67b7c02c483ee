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

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// Each story: ranks come in the order of the lines, each after the one before has arrived, and all must end as said.
// A line is "rank/size" and words that change the configuration.
func TestJoinDisagreement(t *testing.T) {
	me := fmt.Sprintf("pid %d on %s", os.Getpid(), hostName())
	cases := []struct {
		name    string
		arrive  []string
		is      error
		texts   []string
		everyOf int // the first so many ranks get the error; 0: all
	}{
		{"one rank twice", []string{"0/4", "2/4", "1/4", "1/4"}, ErrMismatch,
			[]string{"two processes have rank 1: " + me + " and " + me, "give every process a rank of its own"}, 0},
		{"rank 0 twice", []string{"0/4", "2/4", "0/4"}, ErrMismatch, []string{"two processes have rank 0: " + me + " and " + me}, 0},
		{"larger world", []string{"0/3", "1/3", "2/4"}, ErrMismatch,
			[]string{"rank 2 (" + me + ") has world size 4, rank 0 (" + me + ") has 3; start all ranks with one world size"}, 0},
		{"smaller world", []string{"0/3", "1/2"}, ErrMismatch, []string{"rank 1 (" + me + ") has world size 2, rank 0 (" + me + ") has 3"}, 0},
		{"rank beyond", []string{"0/2", "7/8"}, ErrMismatch, []string{"rank 7 (" + me + ") has world size 8, rank 0"}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := job(t, 1)
			cfg.Rendezvous = append(cfg.Rendezvous, "127.0.0.1:"+freePort(t)) // a second rank 0 must not hide there
			log := newLines()
			cfg.Logger = log.logger()
			outcomes := make(chan error)
			for i, line := range c.arrive {
				own := cfg
				fmt.Sscanf(line, "%d/%d", &own.Rank, &own.WorldSize)
				go func() { _, err := Join(context.Background(), own); outcomes <- err }()
				if i+1 < len(c.arrive) {
					log.await(t, fmt.Sprintf("(%d of", i+1))
				}
			}
			for range c.arrive {
				err := <-outcomes
				mustContain(t, err, c.texts...)
				if !errors.Is(err, c.is) {
					t.Errorf("%v is not %v", err, c.is)
				}
			}
		})
	}
}

// Once all have met, a double is turned away and the job goes on.
func TestJoinLateDouble(t *testing.T) {
	cfg := job(t, 3)
	ss := world(t, cfg)
	for rank := range 3 {
		_, err := Join(t.Context(), cfg.rankOf(rank))
		mustContain(t, err, "all ranks have met already", fmt.Sprintf("rank %d is pid %d on %s", rank, os.Getpid(), hostName()))
	}
	mustExchange(t, ss, "still alive", []int{0, 1, 2})
}

func TestJoinSecrets(t *testing.T) {
	cfg := job(t, 3)
	log := newLines()
	cfg.Logger = log.logger()
	good := make(chan []joined)
	go func() { good <- joinAll(context.Background(), cfg.rankOf(0), cfg.rankOf(1)) }()
	log.await(t, "(2 of 3 arrived)")
	for _, secret := range []string{"", "guess"} {
		bad := cfg.rankOf(2)
		bad.Secret = []byte(secret)
		if _, err := Join(t.Context(), bad); !errors.Is(err, hello.ErrSecret) {
			t.Errorf("secret %q: %v", secret, err)
		}
	}
	rest := joinAll(t.Context(), cfg.rankOf(2))
	sessions(t, append(<-good, rest...))
}

// strange listens like a program that is not ours.
func strange(t *testing.T, answer string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:"+freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 8192))
			conn.Write([]byte(answer))
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// foreign is the rendezvous of another job of which only rank 0 has come.
func foreign(t *testing.T, change func(*Config)) (addr string) {
	t.Helper()
	cfg := job(t, 2)
	log := newLines()
	cfg.JobID, cfg.Logger = "foreign", log.logger()
	change(&cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { _, err := Join(ctx, cfg); done <- err }()
	log.await(t, "waiting for rank 1")
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the other job was disturbed: %v", err)
		}
	})
	return cfg.Rendezvous[0]
}

func TestRankZeroPortBusy(t *testing.T) {
	http := strange(t, "HTTP/1.1 400 Bad Request\r\n\r\n")
	silent := strange(t, "")
	other := foreign(t, func(*Config) {})
	same := foreign(t, func(c *Config) { c.JobID, c.Secret = t.Name(), []byte("other") })
	version := strange(t, "HFRD\x00\x09\x00\x00")
	cfg := job(t, 2)
	cfg.Rendezvous = []string{http, silent, other, same, version}
	_, err := Join(t.Context(), cfg)
	mustContain(t, err, "rank 0 cannot listen",
		http+" is in use by a program that is not hfreduce", silent+" is in use by a program that is not hfreduce",
		other+" is in use by another hfreduce job", same+" is in use by an hfreduce job of the same id but another secret",
		version+" is in use by a job of another hfreduce version", "choose another port")
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v is no EADDRINUSE", err)
	}
}

// The first candidates are taken; all ranks find rank 0 at the next one.
func TestJoinLaterCandidate(t *testing.T) {
	cfg := job(t, 4)
	log := newLines()
	cfg.Logger = log.logger()
	cfg.pace.hopeless = patience // of the wrong version
	cfg.Rendezvous = []string{foreign(t, func(*Config) {}), strange(t, "HFRD\x00\x09\x00\x00"), strange(t, "junk"), "127.0.0.1:" + freePort(t)}
	ss := world(t, cfg)
	if got := ss[0].Listener().Addr().String(); got != cfg.Rendezvous[3] {
		t.Errorf("rank 0 listens on %s of %v", got, cfg.Rendezvous)
	}
	log.await(t, "rank 0 listens on a later candidate")
}

func TestJoinOtherVersion(t *testing.T) {
	cfg := job(t, 2).rankOf(1)
	cfg.Rendezvous = []string{strange(t, "HFRD\x00\x09\x00\x00")}
	for _, more := range [][]string{nil, {"127.0.0.1:" + freePort(t)}} { // at once, and after a while
		cfg.Rendezvous = append(cfg.Rendezvous, more...)
		_, err := Join(t.Context(), cfg)
		mustContain(t, err, cfg.Rendezvous[0], "it speaks version 9, this process version 1")
		if !errors.Is(err, hello.ErrVersion) || strings.Contains(err.Error(), "unreachable") {
			t.Errorf("got %v", err)
		}
	}
}
