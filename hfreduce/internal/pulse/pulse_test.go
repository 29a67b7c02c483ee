// SPDX-License-Identifier: Apache-2.0

package pulse

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// look is a State that is seen at a time.
type look struct {
	at time.Duration
	State
}

// TestSilent shows a Monitor what happens to connections, and asks it at the last look for how long nothing was answered.
func TestSilent(t *testing.T) {
	const s = time.Second
	lost := func(at, heard time.Duration, n uint8) look { // one segment of a connection that had sent 100 bytes
		return look{at, State{Unacked: 1, Retransmits: n, Acked: 100, Heard: heard}}
	}
	closed := func(at, heard time.Duration, probes uint8) look {
		return look{at, State{Unsent: 5000, Probes: probes, Acked: 100, Heard: heard}}
	}
	for _, c := range []struct {
		name  string
		looks []look
		want  time.Duration
	}{
		{"never looked", nil, 0},
		{"idle for long", []look{{0, State{Acked: 100}}, {100 * s, State{Acked: 100, Heard: 100 * s}}}, 0},
		{"idle, probed by keepalive", []look{{0, State{Probes: 1, Heard: 3 * s}}, {9 * s, State{Probes: 4, Heard: 12 * s}}}, 0}, // the kernel's part
		{"in flight, no timeout yet", []look{lost(0, s, 0), lost(20*s, 21*s, 0)}, 0},
		{"first look at a loss", []look{lost(50*s, 50*s, 3)}, 0},
		{"cut", []look{lost(0, s, 1), lost(s, 2*s, 2), lost(9*s, 10*s, 5)}, 9 * s},
		{"cut, looked at late", []look{lost(0, s, 1), lost(60*s, 61*s, 9)}, 60 * s},
		{"slow but sure", []look{lost(0, s, 1), {4 * s, State{Unacked: 1, Retransmits: 1, Acked: 200, Heard: 2 * s}}}, 0},
		{"slow, then cut", []look{lost(0, s, 1), {4 * s, State{Unacked: 1, Retransmits: 1, Acked: 200, Heard: 2 * s}}, {7 * s, State{Unacked: 1, Retransmits: 4, Acked: 200, Heard: 5 * s}}}, 3 * s},
		{"healed between looks", []look{lost(0, s, 1), {5 * s, State{Acked: 200, Heard: s}}, {9 * s, State{Unacked: 1, Retransmits: 1, Acked: 200, Heard: 5 * s}}}, 0},
		{"another loss much later", []look{lost(0, s, 1), {90 * s, State{Unacked: 1, Retransmits: 1, Acked: 900, Heard: s}}}, 0},
		{"the other host has no memory for it, and says so", []look{lost(0, s, 1), lost(9*s, s, 7)}, 0},
		{"closed window, probes answered", []look{closed(0, s, 0), closed(30*s, 10*s, 0), closed(60*s, 20*s, 0)}, 0},
		{"closed window, a probe under way at each look", []look{closed(0, s, 1), closed(30*s, 10*s, 1), closed(60*s, 20*s, 1)}, 0},
		{"closed window, host gone", []look{closed(0, s, 1), closed(4*s, 5*s, 2), closed(9*s, 10*s, 3)}, 9 * s},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Monitor
			start, got := time.Unix(1000, 0), time.Duration(0)
			for _, l := range c.looks {
				got = m.Silent(l.State, start.Add(l.at))
			}
			if got != c.want {
				t.Errorf("silent for %v, want %v", got, c.want)
			}
		})
	}
}

// TestProbes: an idle connection to a dead host ends within the bound, rounded up to the kernel's seconds, of which it takes
// three, and one lost probe does not end it.
func TestProbes(t *testing.T) {
	for seconds := 2; seconds <= 600; seconds++ {
		bound := time.Duration(seconds) * time.Second
		for _, b := range []time.Duration{bound, bound - 300*time.Millisecond} {
			p := probes(b)
			if end := p.idle + p.interval*p.count; end > max(seconds, 3) || end < seconds*3/4 || p.count > 127 || p.count < 2 {
				t.Errorf("%v: %+v ends after %d s", b, p, end)
			}
		}
		if ms := longest(bound); ms < 1000 || ms > 120_000 {
			t.Errorf("%v: %d ms between retransmissions", bound, ms)
		}
		if i := Interval(bound); i > time.Second/4 || i > bound/4 {
			t.Errorf("%v: %v between looks", bound, i)
		}
	}
}

func TestCut(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("read: %w", os.NewSyscallError("read", syscall.ETIMEDOUT)): true,
		syscall.EHOSTUNREACH: true, syscall.ECONNRESET: false, os.ErrDeadlineExceeded: false, errors.New("x"): false,
	} {
		if Cut(err) != want {
			t.Errorf("%v: %t, want %t", err, !want, want)
		}
	}
}

// connected returns both ends of a connection.
func connected(t *testing.T) (conn, other net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if conn, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if other, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	return conn, other
}

// TestLook holds what a real kernel tells against what is known of the connection.
func TestLook(t *testing.T) {
	conn, other := connected(t)
	if err := Do(conn, func(fd int) error { return Keep(fd, Usual) }); err != nil {
		t.Fatal(err)
	}
	state := func() (s State) {
		if err := Do(conn, func(fd int) (err error) { s, err = Look(fd); return err }); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := state(); s.Unacked != 0 || s.Unsent != 0 || s.Heard > 10*time.Second {
		t.Errorf("at first: %+v", s)
	}
	before := state().Acked
	for i := range 2 { // the answer to the second tells that the first was acknowledged
		conn.Write(make([]byte, 1000))
		other.Read(make([]byte, 1000))
		other.Write([]byte{byte(i)})
		conn.Read(make([]byte, 1))
	}
	if s := state(); s.Acked < before+1000 {
		t.Errorf("after 2000 bytes: %+v, %d were acknowledged before", s, before)
	}
	// The other process does not read: its window closes.
	for deadline := time.Now().Add(20 * time.Second); ; { // a write that finds no room is the pause
		conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		conn.Write(make([]byte, 1<<20))
		s := state()
		if s.Unsent > 0 && s.Unacked == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the window does not close: %+v", s)
		}
	}
	var m Monitor
	if d := m.Silent(state(), time.Now()); d != 0 {
		t.Errorf("a host whose process does not read is silent for %v", d)
	}
}

// outer is a connection over another one, as TLS is.
type outer struct{ net.Conn }

func (o outer) NetConn() net.Conn { return o.Conn }

// TestDoUnwraps: what encrypts a connection has no descriptor of its own, and what is no connection of the kernel's has none.
func TestDoUnwraps(t *testing.T) {
	conn, _ := connected(t)
	pipe, _ := net.Pipe()
	for c, want := range map[net.Conn]bool{conn: true, outer{outer{conn}}: true, outer{pipe}: false} {
		called := false
		if err := Do(c, func(fd int) error { called = fd >= 0; return nil }); err != nil || called != want {
			t.Errorf("%T: called %t, want %t, %v", c, called, want, err)
		}
	}
}

// TestGaugeAllocatesNothing looks at a connection as often as a job of days does.
func TestGaugeAllocatesNothing(t *testing.T) {
	conn, _ := connected(t)
	g := NewGauge(outer{conn})
	if n := testing.AllocsPerRun(100, func() {
		if silent := g.Silent(time.Now()); silent != 0 {
			t.Errorf("a host that answers is silent for %v", silent)
		}
	}); n > 0 {
		t.Errorf("%v allocations a look", n)
	}
	if pipe, _ := net.Pipe(); NewGauge(pipe) != nil {
		t.Error("a pipe has a gauge")
	}
}
