// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestFormatRanks(t *testing.T) {
	for want, ranks := range map[string][]int{
		"ranks":                   {},
		"rank 3":                  {3},
		"ranks 3, 4":              {3, 4},
		"ranks 3-5":               {3, 4, 5},
		"ranks 3, 7, 12-15":       {3, 7, 12, 13, 14, 15},
		"ranks 0-2, 4, 6-8, 10":   {0, 1, 2, 4, 6, 7, 8, 10},
		"ranks 0, 1, 3, 4, 100":   {0, 1, 3, 4, 100},
		"ranks 99-101, 1000":      {99, 100, 101, 1000},
		"ranks 0-999":             upTo(1000, 1),
		"ranks 0, 2, 4, 6, 8, 10": upTo(12, 2),
	} {
		if got := FormatRanks(ranks); got != want {
			t.Errorf("%v: %q, want %q", ranks, got, want)
		}
	}
	long := FormatRanks(upTo(2000, 2))
	if !strings.HasSuffix(long, ", 46 and 976 more") {
		t.Errorf("a long list: %q", long)
	}
}

func upTo(n, step int) (ranks []int) {
	for r := 0; r < n; r += step {
		ranks = append(ranks, r)
	}
	return ranks
}

func TestCandidates(t *testing.T) {
	prefixes := func(ps ...string) (out []netip.Prefix) {
		for _, p := range ps {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	machine := []netInterface{
		{"lo", prefixes("127.0.0.1/8", "::1/128")},
		{"eth0", prefixes("192.0.2.7/24", "2001:db8::7/64", "fe80::7/64")},
		{"ib0", prefixes("10.1.0.7/16", "169.254.3.4/16")},
		{"ib1", prefixes("10.2.0.7/16")},
		{"veth1", prefixes("fe80::1/64")},
	}
	cases := []struct {
		filters []string
		bound   string
		want    string // or the error
	}{
		{nil, "[::]:5", "127.0.0.1:5 [::1]:5 192.0.2.7:5 [2001:db8::7]:5 10.1.0.7:5 10.2.0.7:5"},
		{nil, "0.0.0.0:5", "127.0.0.1:5 192.0.2.7:5 10.1.0.7:5 10.2.0.7:5"},
		{nil, "127.0.0.1:5", "127.0.0.1:5"},
		{nil, "[::ffff:127.0.0.1]:5", "127.0.0.1:5"},
		{[]string{"ib0"}, "[::]:5", "10.1.0.7:5"},
		{[]string{"ib*"}, "[::]:5", "10.1.0.7:5 10.2.0.7:5"},
		{[]string{"ib1", " eth0 ", ""}, "[::]:5", "192.0.2.7:5 [2001:db8::7]:5 10.2.0.7:5"},
		{[]string{"10.0.0.0/8"}, "[::]:5", "10.1.0.7:5 10.2.0.7:5"},
		{[]string{"10.2.9.9/16", "2001:db8::/32"}, "[::]:5", "[2001:db8::7]:5 10.2.0.7:5"},
		{[]string{"fe80::/10"}, "[::]:5", "no usable address on the interfaces of HFREDUCE_INTERFACES=fe80::/10; this machine has " +
			"lo (127.0.0.1/8, ::1/128); eth0 (192.0.2.7/24, 2001:db8::7/64, fe80::7/64); ib0"},
		{[]string{"eth"}, "[::]:5", "no usable address on the interfaces of HFREDUCE_INTERFACES=eth; this machine has"},
		{[]string{"10.0.0.0/33"}, "[::]:5", `"10.0.0.0/33" is no prefix such as 10.1.0.0/16`},
		{[]string{"e[th"}, "[::]:5", `"e[th" is no interface name or pattern`},
	}
	for _, c := range cases {
		filters, err := parseFilters(c.filters)
		var got []netip.AddrPort
		if err == nil {
			got, err = candidates(machine, filters, netip.MustParseAddrPort(c.bound))
		}
		text := strings.Trim(fmt.Sprint(got), "[]")
		if err != nil {
			text = err.Error()
		}
		if want := strings.Trim(c.want, "[]"); text != want && (err == nil || !strings.Contains(text, want)) {
			t.Errorf("%q bound to %s:\n got %s\nwant %s", c.filters, c.bound, text, c.want)
		}
	}
	if _, err := candidates(nil, nil, netip.MustParseAddrPort("[::]:5")); err == nil || !strings.Contains(err.Error(), "no interface that is up") {
		t.Errorf("no interfaces: %v", err)
	}
}

// The order of a rank's candidates, and that loopback never leaves the host.
func TestPeerAddresses(t *testing.T) {
	addrs := func(s string) (out []netip.AddrPort) {
		for _, a := range strings.Fields(s) {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	const offered = "127.0.0.1:5 [::1]:5 192.0.2.7:5 10.1.0.7:5"
	for _, c := range []struct {
		oneHost    bool
		seen, want string
	}{
		{true, "127.0.0.1", "127.0.0.1:5 [::1]:5 192.0.2.7:5 10.1.0.7:5"},
		{true, "10.1.0.7", "127.0.0.1:5 [::1]:5 10.1.0.7:5 192.0.2.7:5"},
		{false, "10.1.0.7", "10.1.0.7:5 192.0.2.7:5"},
		{false, "198.51.100.1", "192.0.2.7:5 10.1.0.7:5"}, // behind a translation: what it offers stands
	} {
		a := arrival{addrs: addrs(offered), host: "h", hostID: "id"}
		if got := a.peer(3, c.oneHost, netip.MustParseAddr(c.seen)); !slices.Equal(got.Addrs, addrs(c.want)) {
			t.Errorf("one host %v, seen %s: %v, want %s", c.oneHost, c.seen, got.Addrs, c.want)
		}
	}
}

// An address that every host has leads to the own one, unless the peer is there, too.
func TestDialable(t *testing.T) {
	const bridge = "172.17.0.1:5"
	peer := func(machine, hostID, addrs string) PeerInfo {
		p := PeerInfo{HostID: hostID, Seat: Seat{Machine: machine}}
		for _, a := range strings.Fields(addrs) {
			p.Addrs = append(p.Addrs, netip.MustParseAddrPort(a))
		}
		return p
	}
	for name, c := range map[string]struct {
		me, other PeerInfo
		want      string
	}{
		"hosts":                  {peer("a", "a/1", "10.0.0.1:5 "+bridge), peer("b", "b/1", bridge+" 10.0.0.2:5"), "[10.0.0.2:5]"},
		"hosts with names":       {peer("a", "x", "10.0.0.1:5 "+bridge), peer("b", "y", "10.0.0.2:5 "+bridge), "[10.0.0.2:5]"},
		"containers":             {peer("a", "a/1", "10.0.0.1:5 "+bridge), peer("a", "a/2", "10.0.0.2:5 "+bridge), "[10.0.0.2:5]"},
		"virtual nodes":          {peer("a", "x", "10.0.0.1:5"), peer("a", "y", "10.0.0.1:6"), "[10.0.0.1:6]"},
		"one of them with name":  {peer("a", "x", "10.0.0.1:5"), peer("a", "a/1", "10.0.0.1:6"), "[10.0.0.1:6]"},
		"one host":               {peer("a", "a/1", "127.0.0.1:5 10.0.0.1:5"), peer("a", "a/1", "127.0.0.1:6 10.0.0.1:6"), "[127.0.0.1:6 10.0.0.1:6]"},
		"no other, so try it":    {peer("a", "a/1", "10.0.0.1:5"), peer("b", "b/1", "10.0.0.1:6"), "[10.0.0.1:6]"},
		"nothing in common, too": {peer("a", "a/1", "10.0.0.1:5"), peer("b", "b/1", "10.0.0.2:6 "+bridge), "[10.0.0.2:6 172.17.0.1:5]"},
	} {
		peers := []PeerInfo{c.other, c.me}
		if got := fmt.Sprint(dialable(peers, 1)[0].Addrs); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if got := dialable(peers, 1)[1].Addrs; !slices.Equal(got, c.me.Addrs) || len(peers[0].Addrs) != len(c.other.Addrs) {
			t.Errorf("%s: the own addresses are %v now, those of the table %v", name, got, peers[0].Addrs)
		}
	}
}

// A job over several hosts in which a rank has only loopback fails for all, and says whom to look at.
func TestHubRankWithoutNetwork(t *testing.T) {
	a := newArrivals(t, 3)
	a.come(0, arrival{hostID: "a", addrs: loopbackAnd("192.0.2.1")})
	a.come(1, arrival{hostID: "b", addrs: loopbackAnd("192.0.2.2")})
	a.come(2, arrival{hostID: "c", host: "lonely", pid: 7, addrs: loopbackAnd()})
	f := a.hub.failure()
	if f == nil {
		t.Fatal("the job met")
	}
	mustContain(t, f, "rank 2 (pid 7 on lonely) has no network address but loopback", "HFREDUCE_INTERFACES")
}

func TestHubSeveralHosts(t *testing.T) {
	a := newArrivals(t, 2)
	a.come(0, arrival{hostID: "a", addrs: loopbackAnd("192.0.2.1")})
	a.come(1, arrival{hostID: "b", addrs: loopbackAnd("192.0.2.2", "2001:db8::2")})
	if f := a.hub.failure(); f != nil {
		t.Fatal(f)
	}
	var peers []PeerInfo
	for peers == nil {
		k, body, err := readFrame(a.conns[0], maxDownFrame)
		if err != nil {
			t.Fatal(err)
		}
		if k == kindTable {
			if peers, err = parseTable(body, 2); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := fmt.Sprint(peers[0].Addrs, peers[1].Addrs); got != "[192.0.2.1:5] [192.0.2.2:5 [2001:db8::2]:5]" {
		t.Errorf("got %s", got)
	}
}

// The hub's book of exchanges: whatever is contributed in whatever order, each contribution is answered exactly once
// when all have come or somebody is lost, and nothing stays in the book.
func TestExchangesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 5
		x := newExchanges()
		lost := map[int]bool{}
		gone := func(m int) *failure {
			if lost[m] {
				return failuref(codeLost, "lost")
			}
			return nil
		}
		asked, answered := map[string]int{}, map[string]int{}
		take := func(ds []delivery) {
			for _, d := range ds {
				key, _, _, err := parseResult(d.frame[frameHead:])
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range d.to {
					answered[fmt.Sprint(key, r)]++
				}
			}
		}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			rank := rapid.IntRange(0, n-1).Draw(t, "rank")
			if rapid.IntRange(0, 15).Draw(t, "lose") == 0 {
				lost[rank] = true
				take(x.lose(rank, gone(rank)))
				continue
			}
			key := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")
			members := rapid.SampledFrom([][]int{{0, 1}, {2, 3, 4}, {0, 1, 2}, {4}}).Draw(t, "members")
			if id := fmt.Sprint(key, rank); !lost[rank] && slices.Contains(members, rank) && asked[id] == answered[id] {
				asked[id]++
				take(x.contribute(rank, key, members, []byte{1}, gone))
			}
		}
		for rank := range n {
			lost[rank] = true
			take(x.lose(rank, gone(rank)))
		}
		for id, want := range asked {
			if answered[id] != want {
				t.Errorf("%s: asked %d times, answered %d times", id, want, answered[id])
			}
		}
		if len(x.open) != 0 {
			t.Errorf("left in the book: %v", x.open)
		}
	})
}

func TestExchangeTotalIsBounded(t *testing.T) {
	x := newExchanges()
	members := upTo(maxExchange/maxBlob+1, 1)
	part := make([]byte, maxBlob)
	for _, m := range members {
		ds := x.contribute(m, "k", members, part, func(int) *failure { return nil })
		if len(ds) == 0 {
			continue
		}
		_, f, _, err := parseResult(ds[0].frame[frameHead:])
		if m != len(members)-1 || err != nil || f == nil || !strings.Contains(f.text, "exceed") {
			t.Fatalf("rank %d: %v, %v", m, f, err)
		}
		return
	}
	t.Error("never refused")
}

func TestEventsAreBounded(t *testing.T) {
	v := newEvents()
	for range 2 * maxAborts {
		v.publish(Event{Kind: Abort})
	}
	v.publish(Event{Kind: PeerLost})
	if len(v.log) != maxAborts+1 || v.log[maxAborts].Kind != PeerLost {
		t.Errorf("%d events are kept", len(v.log))
	}
}
