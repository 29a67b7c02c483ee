// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/hfreduce/hfreduce/internal/cpus"
)

// PeerInfo is what every rank knows of every rank after Join.
type PeerInfo struct {
	Rank   int
	Host   string // host name, for messages only
	PID    int
	HostID string // ranks with equal HostID share a node; Config.Node where it was set
	Seat   Seat
	// Addrs are the candidates on which the rank listens, most promising first. Loopback is there, and first, only if
	// all ranks of the job are on one host.
	Addrs []netip.AddrPort
}

// String names the process for messages.
func (p PeerInfo) String() string {
	return fmt.Sprintf("rank %d (pid %d on %s)", p.Rank, p.PID, p.Host)
}

// Seat tells which processors a rank runs on, and with whom. Virtual nodes and containers of one machine share them.
type Seat struct {
	Machine string   // ranks with equal Machine run on the same processors
	Process uint64   // ranks with equal Process, too, are goroutines of one process
	CPUs    cpus.Set // on which the rank may run
}

// maxCPUs bounds the set of a seat on the wire, in bytes.
const maxCPUs = 8 << 10 / 8

func (s *Seat) encode(e *encoder) {
	e.text(s.Machine, maxName)
	*e = binary.BigEndian.AppendUint64(*e, s.Process)
	e.text(string(s.CPUs), maxCPUs)
}

func (d *decoder) seat() (s Seat) {
	s.Machine = d.text(maxName)
	if b := d.take(8); b != nil {
		s.Process = binary.BigEndian.Uint64(b)
	}
	s.CPUs = cpus.Set(d.text(maxCPUs))
	return s
}

// maxAddrs bounds a rank's candidates.
const maxAddrs = 64

// incarnation tells two calls of Join apart, also those of one process.
type incarnation [16]byte

// arrival is what a rank says of itself when it comes to the rendezvous: the token of its hello.
type arrival struct {
	worldSize int
	id        incarnation
	host      string
	pid       int
	hostID    string // the real one
	node      string // Config.Node
	seat      Seat
	addrs     []netip.AddrPort
}

func (a *arrival) encode() []byte {
	var e encoder
	e.u32(a.worldSize)
	e = append(e, a.id[:]...)
	e.text(a.host, maxName)
	e.u32(a.pid)
	e.text(a.hostID, maxName)
	e.text(a.node, maxName)
	a.seat.encode(&e)
	e.addrs(a.addrs[:min(len(a.addrs), maxAddrs)])
	return e
}

func parseArrival(token []byte) (arrival, error) {
	d := decoder{rest: token}
	a := arrival{worldSize: d.u32(maxWorldSize)}
	copy(a.id[:], d.take(len(a.id)))
	a.host = d.text(maxName)
	a.pid = d.u32(math.MaxInt32)
	a.hostID = d.text(maxName)
	a.node = d.text(maxName)
	a.seat = d.seat()
	a.addrs = d.addrs()
	return a, d.end()
}

// process names the process for messages.
func (a *arrival) process() string { return fmt.Sprintf("pid %d on %s", a.pid, a.host) }

// peer is the arrival as the others will know it. seen is the address by which it and rank 0 reach each other: it is
// proven, so it goes first if the rank offers it.
func (a *arrival) peer(rank int, oneHost bool, seen netip.Addr) PeerInfo {
	p := PeerInfo{Rank: rank, Host: a.host, PID: a.pid, HostID: a.hostID, Seat: a.seat}
	if a.node != "" {
		p.HostID = a.node
	}
	for _, addr := range a.addrs {
		if oneHost || !addr.Addr().IsLoopback() {
			p.Addrs = append(p.Addrs, addr)
		}
	}
	slices.SortStableFunc(p.Addrs, func(x, y netip.AddrPort) int { return promise(y, seen) - promise(x, seen) })
	return p
}

// dialable returns the peers as this rank is to dial them: without addresses that it has itself, for ranks that are known to have
// another network. Each host has the same one on the bridge of its containers (docker0, virbr0); who answers there, if only by a
// refusal, is this host, and it would be taken for the peer's answer.
func dialable(peers []PeerInfo, self int) []PeerInfo {
	me, own := &peers[self], map[netip.Addr]bool{}
	for _, a := range me.Addrs {
		own[a.Addr()] = true
	}
	out := slices.Clone(peers)
	for rank := range out {
		p := &out[rank]
		others := slices.DeleteFunc(slices.Clone(p.Addrs), func(a netip.AddrPort) bool { return own[a.Addr()] })
		if p.apart(me) && len(others) > 0 {
			p.Addrs = others
		}
	}
	return out
}

// apart reports whether two ranks are known to have different networks. Config.Node may hide it.
func (p *PeerInfo) apart(q *PeerInfo) bool {
	telling := func(p *PeerInfo) bool { return strings.HasPrefix(p.HostID, p.Seat.Machine+"/") }
	return p.Seat.Machine != q.Seat.Machine || p.HostID != q.HostID && telling(p) && telling(q)
}

// promise ranks a candidate, higher is better.
func promise(a netip.AddrPort, seen netip.Addr) int {
	switch {
	case a.Addr().IsLoopback():
		return 2
	case a.Addr() == seen:
		return 1
	}
	return 0
}

func tableFrame(peers []PeerInfo) []byte {
	var e encoder
	e.u32(len(peers))
	for _, p := range peers {
		e.text(p.Host, maxName)
		e.u32(p.PID)
		e.text(p.HostID, maxName)
		p.Seat.encode(&e)
		e.addrs(p.Addrs)
	}
	return newFrame(kindTable, e)
}

// parseTable reads the table of a job of n ranks.
func parseTable(body []byte, n int) ([]PeerInfo, error) {
	d := decoder{rest: body}
	if got := d.u32(maxWorldSize); got != n {
		d.fail("a table of %d ranks, not %d", got, n)
		return nil, d.err
	}
	peers := make([]PeerInfo, n)
	for rank := range peers {
		peers[rank] = PeerInfo{Rank: rank, Host: d.text(maxName), PID: d.u32(math.MaxInt32), HostID: d.text(maxName), Seat: d.seat(), Addrs: d.addrs()}
	}
	return peers, d.end()
}
