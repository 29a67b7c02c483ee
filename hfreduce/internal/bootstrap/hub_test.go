// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"net"
	"net/netip"
	"testing"
)

// arrivals drives a hub without listener and network.
type arrivals struct {
	hub   *hub
	conns []net.Conn // the ranks' ends
}

func newArrivals(t *testing.T, n int) *arrivals {
	cfg := Config{WorldSize: n, Rendezvous: []string{"x:1"}}
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	cfg.Logger = newLines().logger()
	a := &arrivals{hub: newHub(cfg)}
	t.Cleanup(func() {
		a.hub.close()
		for _, c := range a.conns {
			c.Close()
		}
	})
	return a
}

// come lets a rank arrive; a.worldSize is filled in, and the id if it is zero.
func (a *arrivals) come(rank int, who arrival) net.Conn {
	if who.worldSize == 0 {
		who.worldSize = len(a.hub.members)
	}
	if who.id == (incarnation{}) {
		who.id[0] = byte(len(a.conns) + 1)
	}
	mine, hubs := net.Pipe()
	a.conns = append(a.conns, mine)
	a.hub.arrive(rank, who, hubs)
	return mine
}

func loopbackAnd(more ...string) []netip.AddrPort {
	addrs := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5")}
	for _, m := range more {
		addrs = append(addrs, netip.AddrPortFrom(netip.MustParseAddr(m), 5))
	}
	return addrs
}

// The same process that comes again, because its first connection failed halfway, is no double.
func TestHubSameProcessAgain(t *testing.T) {
	a := newArrivals(t, 3)
	a.come(0, arrival{addrs: loopbackAnd()})
	first := a.come(1, arrival{id: incarnation{9}, addrs: loopbackAnd()})
	second := a.come(1, arrival{id: incarnation{9}, addrs: loopbackAnd()})
	for err := error(nil); err == nil; {
		_, _, err = readFrame(first, maxDownFrame) // it is cut off
	}
	if list := a.hub.refresh(""); a.hub.failure() != nil || list != "waiting for rank 2 (2 of 3 arrived)" {
		t.Errorf("%s, %v", list, a.hub.failure())
	}
	a.come(2, arrival{addrs: loopbackAnd()})
	for k := kind(0); k != kindTable; {
		var err error
		if k, _, err = readFrame(second, maxDownFrame); err != nil {
			t.Fatal(err)
		}
	}
}

// A rank that says the right world size but is outside of it cannot come from Join, and is refused all the same; who
// comes after the failure hears of it too, and who comes at the end that it is the end.
func TestHubRefuses(t *testing.T) {
	told := func(conn net.Conn) string {
		for {
			k, body, err := readFrame(conn, maxDownFrame)
			if err != nil {
				return err.Error()
			}
			if f, err := parseFailed(body); k == kindFailed && err == nil {
				return f.text
			}
		}
	}
	arrive := func(a *arrivals, rank int) string {
		answer := make(chan string)
		mine, hubs := net.Pipe()
		defer mine.Close()
		go func() { answer <- told(mine) }()
		a.hub.arrive(rank, arrival{worldSize: len(a.hub.members), id: incarnation{77}, addrs: loopbackAnd()}, hubs)
		return <-answer
	}
	a := newArrivals(t, 2)
	first := a.come(0, arrival{addrs: loopbackAnd()})
	const want = "rank 5 (pid 0 on ) is not within 0..1"
	for what, got := range map[string]string{"the rank itself": arrive(a, 5), "rank 0": told(first), "who comes later": arrive(a, 1)} {
		if got != want {
			t.Errorf("%s was told %q", what, got)
		}
	}
	closed := newArrivals(t, 2)
	closed.hub.close()
	if got := arrive(closed, 1); got != "rank 0 is closing" {
		t.Errorf("at the end: %q", got)
	}
}

// A process that has stopped reading holds up nobody: the messages for it are queued.
func TestHubMemberThatDoesNotRead(t *testing.T) {
	a := newArrivals(t, 3)
	for rank := range 3 {
		a.come(rank, arrival{addrs: loopbackAnd()}) // nobody reads: pipes have no buffers
	}
	for range 100 {
		if _, err := a.conns[1].Write(abortFrame(kindAbort, 1, "s", "t")); err != nil {
			t.Fatal(err)
		}
	}
	for aborts := 0; aborts < 100; {
		k, _, err := readFrame(a.conns[2], maxDownFrame)
		if err != nil {
			t.Fatal(err)
		}
		if k == kindAbort {
			aborts++
		}
	}
}

// What waits for a member that never reads is bounded.
func TestWireQueueIsBounded(t *testing.T) {
	mine, theirs := net.Pipe()
	defer theirs.Close()
	w := newWire(mine)
	frame := make([]byte, 64<<20) // one memory, queued many times
	for range maxQueue/len(frame) + 2 {
		w.send(frame)
	}
	if _, err := mine.Write([]byte("x")); err == nil || len(w.queue) != 0 {
		t.Errorf("%d messages are queued, %v", len(w.queue), err)
	}
}
