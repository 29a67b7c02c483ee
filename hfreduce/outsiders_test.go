// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// strangerBound is when a port has closed a stranger at the latest: the time for a hello, for last words, and some.
const strangerBound = hello.DefaultHelloTimeout + 3*time.Second

// target is a port, and what a stranger may know of its job.
type target struct {
	addr     string
	id       hello.Identity // of a rank that the port would take data connections from
	rank     int            // who listens
	recorded []byte         // what a dialer said in a hello of this job
}

// outsider is one kind of stranger. act opens a connection and returns when the port has closed it, with an error if that is
// not as it should be.
type outsider struct {
	kind string // that it is counted as
	act  func(at target) error
}

// posing says hello with a change, and must get an error.
func posing(change func(*hello.Identity, *hello.Hello), want error) func(target) error {
	return func(at target) error {
		id, h := at.id, hello.Hello{Purpose: hello.Data, PeerRank: at.rank, Token: []byte("stranger")}
		change(&id, &h)
		ctx, cancel := context.WithTimeout(context.Background(), strangerBound)
		defer cancel()
		conn, _, err := hello.Dial(ctx, at.addr, id, h)
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, want) {
			return fmt.Errorf("%v, want %w", err, want)
		}
		return nil
	}
}

// anywhere are the strangers that a port treats alike with TLS and without.
func anywhere() []outsider {
	return []outsider{
		{"http", saying("HTTP/1.1 4", []byte("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))},
		{"ssh", saying("", []byte("SSH-2.0-x\r\n"))},
		{"bytes", func(at target) error {
			b := make([]byte, 4096)
			for i := range b {
				b[i] = byte(rand.Uint32())
			}
			b[0] = 0x80 // begins as nothing that is known
			return saying("", b)(at)
		}},
		{"silent", saying("", nil)},
		{"slow", func(at target) error { return visit(at.addr, "", func(c net.Conn) { drip(c, at.recorded) }) }},
		{"probe", func(at target) error { return visit(at.addr, "", func(c net.Conn) { c.(*net.TCPConn).CloseWrite() }) }},
		{"truncated", func(at target) error {
			return visit(at.addr, "", func(c net.Conn) {
				c.Write(at.recorded[:20+rand.IntN(len(at.recorded)/2)])
				c.(*net.TCPConn).CloseWrite()
			})
		}},
		{"job", posing(func(id *hello.Identity, _ *hello.Hello) { id.JobID = "other" }, hello.ErrJob)},
		{"secret", posing(func(id *hello.Identity, _ *hello.Hello) { id.Secret = []byte("guess") }, hello.ErrSecret)},
		{"secret", posing(func(id *hello.Identity, _ *hello.Hello) { id.Secret = nil }, hello.ErrSecret)},
		{"rank", posing(func(_ *hello.Identity, h *hello.Hello) { h.PeerRank = at77 }, hello.ErrRank)},
	}
}

// outsidersInClear are the strangers of a job without TLS.
func outsidersInClear() []outsider {
	return append(anywhere(), []outsider{
		{"tls", func(at target) error {
			dialer := net.Dialer{Timeout: strangerBound}
			if c, err := tls.DialWithDialer(&dialer, "tcp", at.addr, &tls.Config{InsecureSkipVerify: true}); err == nil {
				c.Close()
				return errors.New("TLS succeeded")
			}
			return nil
		}},
		{"secret", func(at target) error { return saying("HFRD", at.recorded)(at) }}, // a replay: the proof does not fit
		{"version", func(at target) error {
			b := append([]byte(nil), at.recorded...)
			b[5]++
			return saying("HFRD", b)(at)
		}},
	}...)
}

// outsidersAtTLS are those of a job with TLS; other is an identity of another authority.
func outsidersAtTLS(other *hello.TLS) []outsider {
	return append(anywhere(), []outsider{
		{"clear", posing(func(id *hello.Identity, _ *hello.Hello) { id.TLS = nil }, hello.ErrTLS)},
		{"certificate", posing(func(id *hello.Identity, _ *hello.Hello) { id.TLS = other }, hello.ErrCertificate)},
		{"tls", func(at target) error { return saying("\x16\x03", at.recorded)(at) }}, // a replay: the keys do not fit
	}...)
}

// at77 is a rank that no test has.
const at77 = 77

// traitor has the secret, says hello as a rank for a link, and then nonsense. Only a port that takes links can be its target.
var traitor = outsider{"nonsense", func(at target) error {
	ctx, cancel := context.WithTimeout(context.Background(), strangerBound)
	defer cancel()
	conn, _, err := hello.Dial(ctx, at.addr, at.id, hello.Hello{Purpose: hello.Data, PeerRank: at.rank, Token: []byte("traitor")})
	if err != nil {
		return err
	}
	io.WriteString(conn, strings.Repeat("nonsense ", 100))
	return awaitEnd(conn, "")
}}

// saying sends bytes and waits for the end.
func saying(answer string, says []byte) func(target) error {
	return func(at target) error { return visit(at.addr, answer, func(c net.Conn) { c.Write(says) }) }
}

// drip sends a byte a second, until the port has had enough.
func drip(c net.Conn, b []byte) {
	for i := range b {
		if _, err := c.Write(b[i : i+1]); err != nil {
			return
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// visit opens a connection, acts, and waits for the end.
func visit(addr, answer string, act func(net.Conn)) error {
	conn, err := net.DialTimeout("tcp", addr, strangerBound)
	if err != nil {
		return err
	}
	act(conn)
	return awaitEnd(conn, answer)
}

func awaitEnd(conn net.Conn, answer string) error {
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(strangerBound))
	got, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("it was not closed within %v", strangerBound)
	}
	if !strings.HasPrefix(string(got), answer) {
		return fmt.Errorf("it was answered %q, want %q", got, answer)
	}
	return nil
}

// record lets a rank say hello to the port by way of a wiretap, and keeps what it said. The port does not take it, for no
// rank of this number dials it.
func (at *target) record(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	said := make(chan []byte, 1)
	go func() {
		var b strings.Builder
		defer func() { said <- []byte(b.String()) }()
		in, err := ln.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		out, err := net.Dial("tcp", at.addr)
		if err != nil {
			return
		}
		defer out.Close()
		go func() { io.Copy(in, out); in.Close() }()
		io.Copy(io.MultiWriter(&b, out), in)
	}()
	id := at.id
	id.Rank = at77
	conn, _, err := hello.Dial(t.Context(), ln.Addr().String(), id, hello.Hello{Purpose: at.purpose(), PeerRank: at.rank, Token: []byte("x")})
	if err == nil {
		conn.Close()
	}
	if at.recorded = <-said; len(at.recorded) < 100 {
		t.Errorf("only %d bytes of a hello were recorded: %v", len(at.recorded), err)
	}
}

// purpose is one whose connections the port refuses at once if they come from a rank of a large number: at rank 0, which
// may be waiting for ranks, the control channel, for a token that makes no sense; elsewhere links.
func (at *target) purpose() hello.Purpose {
	if at.rank == 0 {
		return hello.Control
	}
	return hello.Data
}

// mob runs strangers against ports and collects how they fared.
type mob struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	faced map[string]map[string]uint64 // how many of each kind went to each port
	errs  []error
}

func newMob() *mob { return &mob{faced: map[string]map[string]uint64{}} }

func (m *mob) send(o outsider, at target) {
	m.mu.Lock()
	if m.faced[at.addr] == nil {
		m.faced[at.addr] = map[string]uint64{}
	}
	m.faced[at.addr][o.kind]++
	m.mu.Unlock()
	m.wg.Go(func() {
		if err := o.act(at); err != nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.errs = append(m.errs, fmt.Errorf("%s at rank %d: %w", o.kind, at.rank, err))
		}
	})
}

// crowd opens n silent connections at once and holds them until the port has closed them.
func (m *mob) crowd(n int, at target) {
	for range n {
		m.send(outsider{"silent", saying("", nil)}, at)
	}
}

// check waits until all have been closed, and compares their number with what the ranks have counted.
func (m *mob) check(t *testing.T, comms []*Comm, targets []target) {
	t.Helper()
	m.wg.Wait()
	for i, err := range m.errs {
		if i == 10 {
			t.Errorf("and %d more", len(m.errs)-i)
			break
		}
		t.Error(err)
	}
	for i, at := range targets {
		st := comms[i].Stats()
		counted, total := map[string]uint64{}, uint64(0)
		for _, r := range st.Refused {
			counted[r.Kind] += r.Count
			total += r.Count
		}
		if total != st.ConnectionsRefused {
			t.Errorf("rank %d: %d of %d refused connections have a kind", i, total, st.ConnectionsRefused)
		}
		faced := m.faced[at.addr]
		counted["silent"] += counted["slow"] + counted["crowded"] // in a crowd it is chance which of them somebody becomes
		faced["silent"], faced["slow"] = faced["silent"]+faced["slow"], 0
		for kind, n := range faced {
			if counted[kind] < n {
				t.Errorf("rank %d counted %d of %d strangers of kind %q: %+v", i, counted[kind], n, kind, st.Refused)
			}
		}
	}
}
