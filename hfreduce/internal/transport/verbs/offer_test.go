// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/rdma"
)

// raw returns the GID of an address.
func raw(addr string) [16]byte { return netip.MustParseAddr(addr).As16() }

// entry returns a usable GID: "10.0.0.1/24", or without the length where that is not known.
func entry(index int, prefix string) gid {
	addr, length, _ := strings.Cut(prefix, "/")
	g := gid{Index: index, Raw: raw(addr)}
	if length != "" {
		fmt.Sscan(length, &g.Bits)
		if netip.MustParseAddr(addr).Is4() {
			g.Bits += 96
		}
	}
	return g
}

func roce(device string, gids ...gid) endpoint {
	return endpoint{Device: device, Port: 1, LinkLayer: rdma.Ethernet, MTU: 4096, PKey: 0xffff, GIDs: gids, GRH: true}
}

func offered(qps int, ports ...endpoint) *offer {
	return &offer{Version: offerVersion, QueuePairs: qps, Endpoints: ports}
}

func TestPlan(t *testing.T) {
	ib := func(device string, lid uint16) endpoint {
		guid := fmt.Sprintf("fe80::%x", lid)
		return endpoint{Device: device, Port: 2, LinkLayer: rdma.InfiniBand, LID: lid, MTU: 2048, PKey: 0x7fff, GIDs: []gid{entry(0, guid)}}
	}
	virtual := ib("b0", 5) // a virtual function, which shares its LID
	virtual.GRH = true
	small := roce("b0", entry(3, "10.0.0.2/24"))
	small.MTU = 1024
	partition := roce("b0", entry(3, "10.0.0.2/24"))
	partition.PKey = 0x8001
	for name, c := range map[string]struct {
		low, high *offer
		want      string // the paths, or a part of the refusal
	}{
		"same network": {
			offered(1, roce("a0", entry(1, "192.168.0.1/24"), entry(3, "10.0.0.1/24"))), offered(1, roce("b0", entry(2, "10.0.0.2/24"), entry(5, "172.16.0.1/16"))),
			"[a0:1 10.0.0.1 - b0:1 10.0.0.2]",
		},
		"the network of one side decides": {
			offered(1, roce("a0", entry(1, "10.0.1.1"), entry(2, "10.9.0.1/16"))), offered(1, roce("b0", entry(2, "10.0.1.2"), entry(4, "10.9.200.7"))),
			"[a0:1 10.9.0.1 - b0:1 10.9.200.7]",
		},
		"routed, by the longest prefix": {
			offered(1, roce("a0", entry(1, "10.1.0.1/24"), entry(2, "172.16.0.1/24"))), offered(1, roce("b0", entry(2, "172.16.9.9/24"), entry(3, "10.1.3.1/24"))),
			"[a0:1 10.1.0.1 - b0:1 10.1.3.1]",
		},
		"IPv6": {
			offered(1, roce("a0", entry(1, "2001:db8::1/64"), entry(2, "10.0.0.1/8"))), offered(1, roce("b0", entry(2, "2001:db8::2/64"))),
			"[a0:1 2001:db8::1 - b0:1 2001:db8::2]",
		},
		"families do not mix": {offered(1, roce("a0", entry(1, "10.0.0.1/8"))), offered(1, roce("b0", entry(1, "2001:db8::2/64"))), "no two of their GIDs are of one kind"},
		"rails": {
			offered(1, roce("a0", entry(1, "10.0.0.1/24")), roce("a1", entry(1, "10.0.1.1/24"))), offered(1, roce("b0", entry(1, "10.0.0.2/24")), roce("b1", entry(1, "10.0.1.2/24"))),
			"[a0:1 10.0.0.1 - b0:1 10.0.0.2 a1:1 10.0.1.1 - b1:1 10.0.1.2]",
		},
		"more ports on one side, more queue pairs on the other": {
			offered(1, roce("a0", entry(1, "10.0.0.1/24")), roce("a1", entry(1, "10.0.0.3/24"))), offered(3, roce("b0", entry(1, "10.0.0.2/24"))),
			"[a0:1 10.0.0.1 - b0:1 10.0.0.2 a1:1 10.0.0.3 - b0:1 10.0.0.2 a0:1 10.0.0.1 - b0:1 10.0.0.2]",
		},
		"InfiniBand":      {offered(1, ib("a0", 4)), offered(1, ib("b0", 5)), "[a0:2 - b0:2]"},
		"LID is shared":   {offered(1, ib("a0", 4)), offered(1, virtual), "[a0:2 fe80::4 - b0:2 fe80::5]"},
		"mixed layers":    {offered(1, ib("a0", 4)), offered(1, roce("b0", entry(1, "10.0.0.1/8"))), "a0:2 and b0:1: one is InfiniBand, the other Ethernet"},
		"partitions":      {offered(1, roce("a0", entry(1, "10.0.0.1/24"))), offered(1, partition), "partition keys are 0xffff and 0x8001"},
		"smaller MTU":     {offered(1, roce("a0", entry(1, "10.0.0.1/24"))), offered(1, small), "[a0:1 10.0.0.1 - b0:1 10.0.0.2] mtu 1024"},
		"one has none":    {offered(1, roce("a0", entry(1, "10.0.0.1/24"))), &offer{Version: offerVersion, Refuse: "no RDMA device"}, "rank 9: no RDMA device"},
		"other version":   {&offer{Version: 7}, offered(1, small), "rank 4 speaks version 7 of this transport, not 3"},
		"wants too many":  {offered(1<<40, small), offered(1, small), "rank 4 offers 1 ports and wants 1099511627776 queue pairs; a link has at most 64"},
		"offers no ports": {offered(1), offered(1, small), "rank 4 offers no port"},
	} {
		paths, refusal := plan([2]int{4, 9}, [2]*offer{c.low, c.high})
		got := refusal
		if refusal == "" {
			got = fmt.Sprintf("%v mtu %d", paths, paths[0].mtu)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// TestPlanAfterTheWire: what both ranks compute from the offers, the peer's having been sent, is the same.
func TestPlanAfterTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var offers [2]*offer
		for i := range offers {
			o := offered(rapid.IntRange(1, 3).Draw(t, "qps"))
			for range rapid.IntRange(1, 3).Draw(t, "ports") {
				e := roce(rapid.StringMatching("[a-z]{1,5}").Draw(t, "device"))
				for range rapid.IntRange(1, 4).Draw(t, "gids") {
					g := gid{Index: rapid.IntRange(0, 9).Draw(t, "index"), Bits: rapid.SampledFrom([]int{0, 96, 104, 120}).Draw(t, "bits")}
					g.Raw = raw(fmt.Sprintf("10.0.%d.%d", rapid.IntRange(0, 3).Draw(t, "net"), rapid.IntRange(0, 255).Draw(t, "host")))
					e.GIDs = append(e.GIDs, g)
				}
				o.Endpoints = append(o.Endpoints, e)
			}
			offers[i] = o
		}
		sent := func(o *offer) *offer {
			b, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			got := &offer{}
			if err := json.Unmarshal(b, got); err != nil {
				t.Fatal(err)
			}
			return got
		}
		low, refusal := plan([2]int{0, 1}, [2]*offer{offers[0], sent(offers[1])})
		high, _ := plan([2]int{0, 1}, [2]*offer{sent(offers[0]), offers[1]})
		if refusal != "" || fmt.Sprintf("%+v", low) != fmt.Sprintf("%+v", high) {
			t.Fatalf("the smaller rank has %+v (%s), the larger one %+v", low, refusal, high)
		}
		if bad := (&hexGID{}).UnmarshalText([]byte("12")); bad == nil {
			t.Fatal("a GID of one byte is accepted")
		}
	})
}

func TestUsable(t *testing.T) {
	table := []rdma.GID{
		{Index: 0, Raw: raw("fe80::1"), Type: rdma.GIDRoCEv1}, {Index: 1, Raw: raw("fe80::1"), Type: rdma.GIDRoCEv2},
		{Index: 2, Raw: raw("10.0.0.1"), Type: rdma.GIDRoCEv1}, {Index: 3, Raw: raw("10.0.0.1"), Type: rdma.GIDRoCEv2},
		{Index: 4, Raw: raw("169.254.3.4"), Type: rdma.GIDRoCEv2}, {Index: 5, Raw: raw("2001:db8::1"), Type: rdma.GIDRoCEv2},
	}
	networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("10.0.0.9/24"), netip.MustParsePrefix("2001:db8::1/64")}
	if got, want := fmt.Sprint(usable(table, rdma.Ethernet, -1, networks)), fmt.Sprint([]gid{{3, raw("10.0.0.1"), 104}, {5, raw("2001:db8::1"), 64}}); got != want {
		t.Errorf("by rule: got %v, want %v", got, want)
	}
	if got, want := fmt.Sprint(usable(table, rdma.Ethernet, 1, networks)), fmt.Sprint([]gid{{1, raw("fe80::1"), 0}}); got != want {
		t.Errorf("by index: got %v, want %v", got, want)
	}
	if got := usable(table, rdma.Ethernet, 9, networks); len(got) != 0 {
		t.Errorf("an index that is not there: got %v", got)
	}
	table = []rdma.GID{{Index: 0, Raw: raw("fe80::2:c903"), Type: rdma.GIDInfiniBand}, {Index: 1, Raw: raw("fe80::6"), Type: rdma.GIDInfiniBand}}
	for index, want := range map[int]gid{-1: {0, raw("fe80::2:c903"), 0}, 1: {1, raw("fe80::6"), 0}} {
		if got := fmt.Sprint(usable(table, rdma.InfiniBand, index, networks)); got != fmt.Sprint([]gid{want}) {
			t.Errorf("InfiniBand, index %d: got %v, want %v", index, got, want)
		}
	}
}

func TestShare(t *testing.T) {
	speed := func(device string, gbps float64) *port {
		return &port{endpoint: endpoint{Device: device}, attr: rdma.PortAttr{Gbps: gbps}}
	}
	ports := []*port{speed("a", 200), speed("slow", 25), speed("b", 200), speed("c", 200), speed("d", 200), speed("far", 400)}
	infos := []rdma.DeviceInfo{{Name: "a"}, {Name: "slow"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "far", NUMANode: 1}}
	for _, c := range []struct {
		numa, local, locals, near, nears int
		want                             string
	}{
		{0, 0, 1, 0, 1, "abcd"}, {0, 0, 2, 0, 2, "ab"}, {0, 1, 2, 1, 2, "cd"}, {0, 2, 4, 2, 4, "c"}, {0, 5, 8, 5, 8, "b"},
		{1, 0, 1, 0, 1, "far"}, {1, 3, 8, 3, 8, "far"}, {-1, 0, 1, 0, 1, "far"}, {5, 0, 1, 0, 1, "far"},
		{0, 0, 8, 0, 4, "a"}, {0, 2, 8, 1, 4, "b"}, {0, 4, 8, 2, 4, "c"}, {0, 6, 8, 3, 4, "d"}, // every other rank is on this NUMA node
		{0, 0, 4, 0, 2, "ab"}, {0, 1, 4, 1, 2, "cd"}, {0, 1, 2, 0, 1, "abcd"}, // the others have devices of their own
	} {
		mine, rest := share(ports, infos, &Config{NUMANode: c.numa, Local: c.local, Locals: c.locals, Near: c.near, Nears: c.nears})
		got := ""
		for _, p := range mine {
			got += p.Device
		}
		if got != c.want || len(mine)+len(rest) != len(ports) {
			t.Errorf("rank %d of %d on NUMA node %d: got %s and %d others, want %s", c.local, c.locals, c.numa, got, len(rest), c.want)
		}
	}
}

// TestExplain: going over TCP is worth a warning where there are devices, which can't be used as they are.
func TestExplain(t *testing.T) {
	missing := fmt.Errorf("no device: %w", rdma.ErrNotSupported)
	for _, c := range []struct {
		refusal error
		devices []string
		want    slog.Level
	}{
		{missing, nil, slog.LevelInfo}, {missing, []string{"mlx5_0"}, slog.LevelWarn}, {nil, nil, slog.LevelWarn},
		{errors.New("verbs: port mlx5_0:1 is down, not active"), nil, slog.LevelWarn},
	} {
		var text strings.Builder
		x := New(Config{Devices: c.devices, Logger: slog.New(slog.NewTextHandler(&text, nil))})
		x.refusal = c.refusal
		for range 2 {
			x.explain(1, "reason")
		}
		if strings.Count(text.String(), "\n") != 1 || !strings.Contains(text.String(), "level="+c.want.String()) {
			t.Errorf("refusal %v, devices %q: got %q, want one line of level %v", c.refusal, c.devices, text.String(), c.want)
		}
	}
}

func TestMemoryLock(t *testing.T) {
	limit := func(bytes uint64, unlimited bool, err error) func() (uint64, bool, error) {
		return func() (uint64, bool, error) { return bytes, unlimited, err }
	}
	for _, ok := range []func() (uint64, bool, error){limit(5000, false, nil), limit(0, true, nil), limit(0, false, errors.New("not known"))} {
		if err := checkMemoryLock(5000, ok); err != nil {
			t.Errorf("got %v", err)
		}
	}
	err := checkMemoryLock(5000<<10, limit(64<<10, false, nil))
	for _, words := range []string{"64 KiB", "5000 KiB", "ulimit -l", "Slurm", "LimitMEMLOCK=infinity", "Docker: --ulimit memlock=-1", "Kubernetes"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v does not say %q", err, words)
		}
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v is not ErrUnsupported", err)
	}
}
