// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/tcp"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/verbs"
	"github.com/hfreduce/hfreduce/internal/cpus"
)

// The values of Options.Transport.
const (
	// TransportAuto is RDMA between ranks that both have it and prove it with a message, else TCP; the log says why.
	TransportAuto = "auto"
	// TransportTCP is TCP, whatever there is.
	TransportTCP = "tcp"
	// TransportVerbs is RDMA; where it can't be used is an error.
	TransportVerbs = "verbs"
)

// VerbsOptions say how RDMA is used. The environment variables are HFREDUCE_VERBS_ and the field's name in capitals
// (TrafficClass: HFREDUCE_VERBS_TRAFFIC_CLASS; Devices: a list with commas). Ranks may differ in Devices and GIDIndex only;
// the others must suit the fabric.
type VerbsOptions struct {
	// Devices are the devices to use, "mlx5_0" or "mlx5_0:1" (device:port). Links use all of them in turn, the i-th with the
	// peer's i-th. Empty: the active ports on the rank's NUMA node, or all, shared out among those that choose from the same.
	Devices []string
	// GIDIndex is the entry of every port's GID table to use, from 1; GIDIndexZero means entry 0. 0: chosen by rule, RoCE v2,
	// not link-local, of the peer's network where there is one.
	GIDIndex int
	// PKeyIndex is the entry of every port's partition key table.
	PKeyIndex int
	// ServiceLevel is the InfiniBand service level, on RoCE the priority, 0..15.
	ServiceLevel int
	// TrafficClass is the traffic class of the packets' IP header (DSCP << 2), 0..255.
	TrafficClass int
	// MTU is the largest payload of a packet in bytes: 256, 512, 1024, 2048 or 4096. 0: what both ports can.
	MTU int
	// Timeout is the exponent of the time after which a packet is sent again, 4.096 us * 2^Timeout; 1..31. 0: 18, 1.07 s.
	Timeout int
	// Retry is how often a packet is sent again before the link is broken: after (Retry+1) times the timeout. 1..6; 0: 6.
	Retry int
	// QueuePairs is the least number of queue pairs of each link, which take turns. 0: one for each pair of ports.
	QueuePairs int
}

// GIDIndexZero is the VerbsOptions.GIDIndex that means entry 0.
const GIDIndexZero = -1

// String lists what is set.
func (v VerbsOptions) String() string {
	var s []string
	add := func(name string, value int) {
		if value != 0 {
			s = append(s, fmt.Sprintf("%s=%d", name, value))
		}
	}
	if len(v.Devices) > 0 {
		s = append(s, "devices="+strings.Join(v.Devices, ","))
	}
	add("gid_index", v.GIDIndex)
	add("pkey_index", v.PKeyIndex)
	add("service_level", v.ServiceLevel)
	add("traffic_class", v.TrafficClass)
	add("mtu", v.MTU)
	add("timeout", v.Timeout)
	add("retry", v.Retry)
	add("queue_pairs", v.QueuePairs)
	return "{" + strings.Join(s, " ") + "}"
}

// fromEnvironment fills what is not set.
func (v *VerbsOptions) fromEnvironment(getenv func(string) string) (errs []error) {
	const prefix = "HFREDUCE_VERBS_"
	if list := getenv(prefix + "DEVICES"); len(v.Devices) == 0 && list != "" {
		for name := range strings.SplitSeq(list, ",") {
			v.Devices = append(v.Devices, strings.TrimSpace(name))
		}
	}
	for name, field := range map[string]*int{
		"GID_INDEX": &v.GIDIndex, "PKEY_INDEX": &v.PKeyIndex, "SERVICE_LEVEL": &v.ServiceLevel, "TRAFFIC_CLASS": &v.TrafficClass,
		"MTU": &v.MTU, "TIMEOUT": &v.Timeout, "RETRY": &v.Retry, "QUEUE_PAIRS": &v.QueuePairs,
	} {
		text := getenv(prefix + name)
		if *field != 0 || text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			errs = append(errs, fmt.Errorf("%s%s=%q is not a number from 0", prefix, name, text))
			continue
		}
		if *field = n; n == 0 && field == &v.GIDIndex {
			v.GIDIndex = GIDIndexZero
		}
	}
	return errs
}

// check lists what is out of range.
func (v *VerbsOptions) check() (errs []error) {
	for _, f := range []struct {
		name          string
		value, lo, hi int
	}{
		{"GIDIndex", v.GIDIndex, GIDIndexZero, 255}, {"PKeyIndex", v.PKeyIndex, 0, 65535}, {"ServiceLevel", v.ServiceLevel, 0, 15},
		{"TrafficClass", v.TrafficClass, 0, 255}, {"Timeout", v.Timeout, 0, 31}, {"Retry", v.Retry, 0, 6}, {"QueuePairs", v.QueuePairs, 0, verbs.MaxQueuePairs},
	} {
		if f.value < f.lo || f.value > f.hi {
			errs = append(errs, fmt.Errorf("option Verbs.%s %d is not within %d..%d", f.name, f.value, f.lo, f.hi))
		}
	}
	switch v.MTU {
	case 0, 256, 512, 1024, 2048, 4096:
	default:
		errs = append(errs, fmt.Errorf("packet size Verbs.MTU %d is not 256, 512, 1024, 2048 or 4096", v.MTU))
	}
	for _, d := range v.Devices {
		if strings.TrimSpace(d) == "" {
			errs = append(errs, fmt.Errorf("option Verbs.Devices %q has an empty name", v.Devices))
		}
	}
	return errs
}

// overRDMA returns the transport that prefers, or demands, RDMA, over the TCP transport.
func (f *processFabric) overRDMA(o *Options, side *tcp.Transport) transport.Transport {
	v := o.Verbs
	c := verbs.Config{
		Rank: f.self, Side: side, Required: o.Transport == TransportVerbs, Logger: o.Logger, Networks: networks(o.Logger),
		Devices: v.Devices, GIDIndex: v.GIDIndex, PKeyIndex: v.PKeyIndex, ServiceLevel: v.ServiceLevel, TrafficClass: v.TrafficClass,
		MTU: v.MTU, Timeout: v.Timeout, Retry: v.Retry, QueuePairs: v.QueuePairs,
	}
	f.shareDevices(&c, os.DirFS("/sys"))
	switch v.GIDIndex {
	case 0:
		c.GIDIndex = -1
	case GIDIndexZero:
		c.GIDIndex = 0
	}
	return verbs.New(c)
}

// shareDevices says which ranks this one shares its machine's devices with.
func (f *processFabric) shareDevices(c *verbs.Config, sys fs.FS) {
	self := &f.peers[f.self]
	c.NUMANode = cpus.NodeOf(sys, self.Seat.CPUs)
	count := func(number, all *int, rank int) {
		if rank < f.self {
			*number++
		}
		*all++
	}
	for rank, p := range f.peers {
		if p.HostID != self.HostID {
			continue
		}
		count(&c.Local, &c.Locals, rank)
		if cpus.NodeOf(sys, p.Seat.CPUs) == c.NUMANode {
			count(&c.Near, &c.Nears, rank)
		}
	}
}

// networks returns this machine's addresses with their networks.
func networks(log *slog.Logger) (all []netip.Prefix) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		log.Warn("this machine's networks are not known", "error", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p)
		}
	}
	return all
}
