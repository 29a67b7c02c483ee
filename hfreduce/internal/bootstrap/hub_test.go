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
	cfg := Config{WorldSize: n}
	if err := (&Config{WorldSize: n, Rendezvous: []string{"x:1"}}).complete(); err != nil {
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
	a := newArrivals(t, 2)
	a.come(0, arrival{addrs: loopbackAnd()})
	first := a.come(1-1+1, arrival{id: incarnation{9}, addrs: loopbackAnd()})
	if f := a.hub.failure(); f != nil {
		t.Fatal(f)
	}
	_ = first
}
