// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// guest is a connection for pending: it has an address and notices its end.
type guest struct {
	net.Conn
	from   net.IP
	closed bool
}

func (g *guest) RemoteAddr() net.Addr { return &net.TCPAddr{IP: g.from, Port: 1} }

func (g *guest) Close() error { g.closed = true; return nil }

func v4(last byte) net.IP { return net.IPv4(10, 0, 0, last) }

// A crowd of one address displaces itself: who comes from elsewhere stays, however long it has been silent.
func TestCrowdDisplacesItself(t *testing.T) {
	p := newPending(8, 0)
	slow := &guest{from: v4(1)}
	mine, _ := p.add(slow)
	crowd := make([]*guest, 100)
	for i := range crowd {
		crowd[i] = &guest{from: v4(2)}
		p.add(crowd[i])
	}
	if slow.closed || !p.remove(mine) {
		t.Error("the slow one was displaced")
	}
	for i, g := range crowd {
		if g.closed != (i < 93) {
			t.Errorf("connection %d of the crowd: closed %t", i, g.closed)
		}
	}
}

// Who has said the job's name stays while there are others that have not, also of its own address.
func TestCrowdSparesWhoKnowsTheJob(t *testing.T) {
	p := newPending(8, 0)
	known := &guest{from: v4(2)}
	mine, _ := p.add(known)
	p.promote(mine)
	for range 100 {
		p.add(&guest{from: v4(2)})
	}
	if known.closed || !p.remove(mine) {
		t.Error("who knew the job was displaced by those who did not")
	}
}

// A host has more IPv6 addresses than any table.
func TestCrowdCountsNetworks(t *testing.T) {
	p := newPending(4, 0)
	slow := &guest{from: net.ParseIP("2001:db8:1::1")}
	p.add(slow)
	for i := range 50 {
		p.add(&guest{from: net.ParseIP(fmt.Sprintf("2001:db8:2::%d", i+1))})
	}
	if slow.closed {
		t.Error("many addresses of one network displaced another network's only one")
	}
}

// TestPendingModel: whatever comes and goes, the limit holds, who is displaced is of an address with the most, and the
// counts stay true.
func TestPendingModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 6).Draw(t, "limit")
		p := newPending(limit, 0)
		in := map[*ticket]*guest{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			var all []*ticket
			for i := range p.crowds {
				for e := p.crowds[i].order.Front(); e != nil; e = e.Next() {
					all = append(all, e.Value.(*ticket))
				}
			}
			switch action := rapid.IntRange(0, 3).Draw(t, "action"); {
			case action <= 1 || len(all) == 0:
				g := &guest{from: v4(byte(rapid.IntRange(1, 3).Draw(t, "from")))}
				place, _ := p.add(g)
				in[place] = g
			case action == 2:
				p.promote(rapid.SampledFrom(all).Draw(t, "promoted"))
			default:
				place := rapid.SampledFrom(all).Draw(t, "removed")
				if !p.remove(place) {
					t.Fatal("one that is in was displaced")
				}
				delete(in, place)
			}
			open := 0
			for place, g := range in {
				if g.closed != place.evicted || g.closed && p.remove(place) {
					t.Fatalf("closed %t, displaced %t", g.closed, place.evicted)
				}
				if !g.closed {
					open++
				}
			}
			if open > limit {
				t.Fatalf("%d are in, the limit is %d", open, limit)
			}
			for i := range p.crowds {
				c, most, n := &p.crowds[i], 0, 0
				for _, of := range c.of {
					most, n = max(most, of), n+of
				}
				if most != c.most || n != c.order.Len() {
					t.Fatalf("counts say %d at most and %d, not %d and %d", c.most, n, most, c.order.Len())
				}
			}
		}
	})
}

// Ranks get in, as a rule at the first attempt, while a crowd of silent connections comes from their own address without pause.
func TestRanksGetThroughACrowd(t *testing.T) {
	l := start(t, ListenOptions{MaxPending: 64})
	l.Handle(Data, echo())
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		var held []net.Conn
		for {
			select {
			case <-stop:
				for _, c := range held {
					c.Close()
				}
				done <- n
				return
			default:
			}
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				continue
			}
			n++
			if held = append(held, conn); len(held) > 300 {
				held[0].Close()
				held = held[1:]
			}
		}
	}()
	const ranks = 20
	again := 0
	for range ranks {
		conn, _, err := dial(t, l, Identity{Rank: 1}, Hello{Purpose: Data, PeerRank: 0})
		for ; errors.Is(err, ErrCut) && again < 2; again++ { // a rank without a processor for longer than the grace
			conn, _, err = dial(t, l, Identity{Rank: 1}, Hello{Purpose: Data, PeerRank: 0})
		}
		if err != nil {
			t.Error(err)
			break
		}
		mustTalk(t, conn)
		conn.Close()
	}
	close(stop)
	n := <-done
	l.Close()
	s := l.Stats()
	t.Logf("a crowd of %d, of which %d were displaced", n, s.Of(KindCrowded))
	if s.Accepted != ranks || n > 1000 && s.Of(KindCrowded)+s.Of(KindProbe) == 0 {
		t.Errorf("%+v with a crowd of %d", s, n)
	}
}

const poorEnv = "HFREDUCE_TEST_HELLO_POOR"

// poor listens with few descriptors until its input ends. Then it says what it has refused.
func poor() error {
	few := syscall.Rlimit{Cur: 40, Max: 40}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		return err
	}
	l, err := NewListener(ListenOptions{Addr: "127.0.0.1:0", MaxPending: 1000})
	if err != nil {
		return err
	}
	l.Handle(Data, echo())
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
	l.Close()
	s := l.Stats()
	fmt.Println(s.Accepted, s.Of(KindCrowded) > 0)
	return nil
}

// A process that has run out of descriptors because of strangers gives theirs to ranks.
func TestOutOfDescriptors(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), poorEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	lines := bufio.NewScanner(out)
	lines.Scan()
	addr := lines.Text()
	for range 200 { // five times what it can have
		conn, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	for range 3 {
		conn, _, err := Dial(t.Context(), addr, Identity{Rank: 1}, Hello{Purpose: Data, PeerRank: 0})
		if err != nil {
			t.Fatal(err)
		}
		mustTalk(t, conn)
		conn.Close() // the handler ends, and Close waits for that
	}
	in.Close()
	if lines.Scan(); lines.Text() != "3 true" {
		t.Errorf("it accepted, and displaced: %q", lines.Text())
	}
}

// Connections that have proved themselves are bounded, too, while nobody takes them.
func TestWaitingIsBounded(t *testing.T) {
	log := newLines()
	l := start(t, ListenOptions{MaxPending: 3, HandlerWait: patience, Logger: log.logger()})
	answers := make(chan error, 8)
	for range cap(answers) {
		go func() {
			conn, _, err := Dial(t.Context(), l.Addr().String(), Identity{Rank: 1}, Hello{Purpose: Data, PeerRank: 0})
			if err == nil {
				conn.Close()
			}
			answers <- err
		}()
	}
	refused := 0
	for range cap(answers) {
		err := <-answers
		if err != nil && !errors.Is(err, ErrNotReady) && !errors.Is(err, ErrCut) {
			t.Error(err)
		}
		if err != nil {
			refused++
		}
		if refused == cap(answers)-3 {
			l.Handle(Data, Handler{Serve: func(_ Hello, c net.Conn) { c.Close() }})
		}
	}
	if refused < cap(answers)-3 {
		t.Errorf("%d of %d were refused", refused, cap(answers))
	}
	if strings.Count(log.String(), "kind=not_ready") > 1 {
		t.Errorf("logged more than once:\n%s", log)
	}
}
