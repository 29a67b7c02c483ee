// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"github.com/hfreduce/hfreduce/rdma"
)

// offerVersion is that of the messages by which two ranks set up a link and of what travels over it.
const offerVersion = 3

// offer is what a rank tells a peer before anything is made: with which ports it could do RDMA, or why it can't.
type offer struct {
	Version    int
	Refuse     string     `json:",omitempty"`
	Endpoints  []endpoint `json:",omitempty"` // nearest first
	QueuePairs int        // how many queue pairs it wants at least
}

// endpoint is a port of a device.
type endpoint struct {
	Device    string
	Port      int
	LinkLayer rdma.LinkLayer
	LID       uint16
	MTU       int // bytes
	PKey      uint16
	GIDs      []gid `json:",omitempty"` // that may be used
	GRH       bool  `json:",omitempty"` // it must be reached by a GID: always on Ethernet, on InfiniBand if it says so or it was asked for
}

// String returns e.g. "mlx5_0:1".
func (e endpoint) String() string { return fmt.Sprintf("%s:%d", e.Device, e.Port) }

// maxGIDs bounds the GIDs of a port that are looked at: tables of devices have some hundred entries.
const maxGIDs = 1 << 10

// crowded reports whether the port has more.
func (e endpoint) crowded() bool { return len(e.GIDs) > maxGIDs }

// gid is a usable entry of a port's GID table.
type gid struct {
	Index int
	Raw   hexGID
	Bits  int // length of its network's prefix, within the 128 bits of the GID; 0 if it is not known
}

// hexGID is a GID as text.
type hexGID [16]byte

// MarshalText writes hexadecimal digits.
func (g hexGID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, g[:]), nil }

// UnmarshalText reads them.
func (g *hexGID) UnmarshalText(b []byte) error {
	raw, err := hex.AppendDecode(nil, b)
	if err != nil || len(raw) != len(g) {
		return fmt.Errorf("%q is not a GID of 32 hexadecimal digits", b)
	}
	copy(g[:], raw)
	return nil
}

// Addr returns the GID as an IP address.
func (g hexGID) Addr() netip.Addr { return netip.AddrFrom16(g).Unmap() }

// path is one queue pair's way between two ranks.
type path struct {
	ends [2]endpoint // of the smaller rank, of the larger one
	gids [2]int      // positions in ends[i].GIDs; -1 where there is no GRH
	mtu  int
}

// String returns e.g. "mlx5_0:1 10.0.0.1 - mlx5_1:1 10.0.0.2".
func (p path) String() string {
	var s [2]string
	for i, e := range p.ends {
		s[i] = e.String()
		if p.gids[i] >= 0 {
			s[i] += " " + e.GIDs[p.gids[i]].Raw.Addr().String()
		}
	}
	return strings.Join(s[:], " - ")
}

// plan pairs the ports of two ranks. Both compute it from the same two offers, the smaller rank's first, with the same
// result. There are as many ways as the rank with more ports has, or as either wants queue pairs; the ports take turns.
// refusal says why there is none.
func plan(ranks [2]int, offers [2]*offer) (paths []path, refusal string) {
	for i, o := range offers {
		switch {
		case o.Version != offerVersion:
			return nil, fmt.Sprintf("rank %d speaks version %d of this transport, not %d", ranks[i], o.Version, offerVersion)
		case o.Refuse != "":
			return nil, fmt.Sprintf("rank %d: %s", ranks[i], o.Refuse)
		case len(o.Endpoints) == 0:
			return nil, fmt.Sprintf("rank %d offers no port", ranks[i])
		case len(o.Endpoints) > MaxQueuePairs || o.QueuePairs > MaxQueuePairs || slices.ContainsFunc(o.Endpoints, endpoint.crowded):
			return nil, fmt.Sprintf("rank %d offers %d ports and wants %d queue pairs; a link has at most %d, and a port at most %d GIDs",
				ranks[i], len(o.Endpoints), o.QueuePairs, MaxQueuePairs, maxGIDs)
		}
	}
	low, high := offers[0], offers[1]
	n := max(len(low.Endpoints), len(high.Endpoints), low.QueuePairs, high.QueuePairs)
	for i := range n {
		p := path{ends: [2]endpoint{low.Endpoints[i%len(low.Endpoints)], high.Endpoints[i%len(high.Endpoints)]}, gids: [2]int{-1, -1}}
		if refusal := p.choose(); refusal != "" {
			return nil, fmt.Sprintf("%v and %v: %s", p.ends[0], p.ends[1], refusal)
		}
		paths = append(paths, p)
	}
	return paths, ""
}

// choose fills what the two ports decide.
func (p *path) choose() (refusal string) {
	a, b := &p.ends[0], &p.ends[1]
	p.mtu = min(a.MTU, b.MTU)
	if a.LinkLayer != b.LinkLayer {
		return fmt.Sprintf("one is %v, the other %v", a.LinkLayer, b.LinkLayer)
	}
	if a.PKey&0x7fff != b.PKey&0x7fff {
		return fmt.Sprintf("their partition keys are %#x and %#x", a.PKey, b.PKey)
	}
	if a.LinkLayer == rdma.InfiniBand && !a.GRH && !b.GRH {
		return "" // LIDs are enough
	}
	best := choice{}
	for i, g := range a.GIDs {
		for j, h := range b.GIDs {
			if c := weigh(g, h, i, j); c.better(best) {
				best = c
			}
		}
	}
	if !best.valid {
		return fmt.Sprintf("no two of their GIDs are of one kind: %v; %v", addresses(a.GIDs), addresses(b.GIDs))
	}
	p.gids = [2]int{best.i, best.j}
	return ""
}

// choice is a pair of GIDs and what speaks for it.
type choice struct {
	valid  bool
	subnet bool // both are of one network
	common int  // leading bits that are equal
	i, j   int
}

// better compares: one network, then the longest common prefix, then the first in the tables.
func (c choice) better(d choice) bool {
	switch {
	case !c.valid || !d.valid:
		return c.valid
	case c.subnet != d.subnet:
		return c.subnet
	case c.common != d.common:
		return c.common > d.common
	}
	return cmp.Or(cmp.Compare(c.i, d.i), cmp.Compare(c.j, d.j)) < 0
}

// weigh judges a pair. GIDs of different families do not reach each other.
func weigh(g, h gid, i, j int) choice {
	if g.Raw.Addr().Is4() != h.Raw.Addr().Is4() {
		return choice{}
	}
	common := commonBits(g.Raw, h.Raw)
	network := max(g.Bits, h.Bits)
	return choice{valid: true, subnet: network > 0 && common >= network, common: common, i: i, j: j}
}

func commonBits(a, b hexGID) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 8 * len(a)
}

func addresses(gids []gid) []netip.Addr {
	var all []netip.Addr
	for _, g := range gids {
		all = append(all, g.Raw.Addr())
	}
	return all
}

// usable returns the entries of a GID table that a link may use: index alone if it is not negative; else those of RoCE v2
// that are not link-local, or on InfiniBand entry 0, of the port's own GUID. networks are the machine's, to tell how long a
// prefix is.
func usable(table []rdma.GID, layer rdma.LinkLayer, index int, networks []netip.Prefix) []gid {
	if layer == rdma.InfiniBand {
		index = max(index, 0)
	}
	var all []gid
	for _, g := range table {
		addr := g.Addr()
		if index >= 0 && g.Index != index || index < 0 && (g.Type != rdma.GIDRoCEv2 || addr.IsLinkLocalUnicast()) {
			continue
		}
		entry := gid{Index: g.Index, Raw: g.Raw}
		if i := slices.IndexFunc(networks, func(n netip.Prefix) bool { return n.Addr() == addr }); i >= 0 {
			entry.Bits = networks[i].Bits() + 128 - addr.BitLen()
		}
		all = append(all, entry)
	}
	return all
}
