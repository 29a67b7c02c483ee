// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// netnsVariable, set to 1, allows tests to make network namespaces.
const netnsVariable = "HFREDUCE_TEST_NETNS"

// lan is a network of hosts that are namespaces, joined by a switch that is another one: a bridge whose port pI leads to
// eth0 of host I. The machine's own network has no part in it.
type lan struct {
	t     *testing.T
	name  string
	ipv6  bool
	hosts int
}

var lans atomic.Int64

// newLAN makes a network with IPv4 addresses, or with IPv6 addresses only.
func newLAN(t *testing.T, hosts int, ipv6 bool) *lan {
	t.Helper()
	switch _, err := exec.LookPath("ip"); {
	case os.Getenv(netnsVariable) != "1":
		testreq.Missing(t, "netns", netnsVariable+" is not 1; make test-netns runs these tests")
	case os.Geteuid() != 0:
		testreq.Missing(t, "netns", "this is not root")
	case err != nil:
		testreq.Missing(t, "netns", err.Error()+"; it is in Debian's package iproute2")
	}
	l := &lan{t: t, name: fmt.Sprintf("hfr%d-%d", os.Getpid(), lans.Add(1)), ipv6: ipv6, hosts: hosts}
	t.Cleanup(func() { // a link goes with either of its ends
		for i := range hosts {
			_ = exec.Command("ip", "netns", "del", l.host(i)).Run()
		}
		_ = exec.Command("ip", "netns", "del", l.name).Run()
	})
	if out, err := exec.Command("ip", "netns", "add", l.name).CombinedOutput(); err != nil && strings.Contains(string(out), "not permitted") {
		testreq.Missing(t, "netns", fmt.Sprintf("root may not make network namespaces here, for which a container needs CAP_SYS_ADMIN (--privileged): %s", out))
	} else if err != nil {
		t.Fatalf("ip netns add: %v: %s", err, out)
	}
	l.ip("-n", l.name, "link", "add", "br0", "type", "bridge")
	l.ip("-n", l.name, "link", "set", "br0", "up")
	for i := range hosts {
		h, port := l.host(i), fmt.Sprintf("p%d", i)
		l.ip("netns", "add", h)
		l.ip("-n", h, "link", "set", "lo", "up")
		l.ip("-n", h, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", l.name)
		l.ip("-n", l.name, "link", "set", port, "master", "br0", "up")
		if ipv6 {
			l.ip("-n", h, "addr", "add", l.address(i)+"/64", "dev", "eth0", "nodad")
		} else {
			l.ip("-n", h, "addr", "add", l.address(i)+"/24", "dev", "eth0")
		}
		l.ip("-n", h, "link", "set", "eth0", "up")
	}
	return l
}

func (l *lan) host(i int) string { return fmt.Sprintf("%s-h%d", l.name, i) }

func (l *lan) address(i int) string {
	if l.ipv6 {
		return fmt.Sprintf("fd77::%d", i+1)
	}
	return fmt.Sprintf("10.77.0.%d", i+1)
}

// addBridges gives each host a bridge with the same address, as Docker does.
func (l *lan) addBridges(address string) {
	l.t.Helper()
	for i := range l.hosts {
		h := l.host(i)
		l.ip("-n", h, "link", "add", "docker0", "type", "bridge")
		l.ip("-n", h, "addr", "add", address, "dev", "docker0")
		l.ip("-n", h, "link", "set", "docker0", "up")
	}
}

// awaitConnection waits until one host has a connection to another.
func (l *lan) awaitConnection(from, to int) {
	l.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		out, err := exec.Command("ip", "netns", "exec", l.host(from), "ss", "-Htn", "state", "established", "dst", l.address(to)).CombinedOutput()
		if err != nil {
			l.t.Fatalf("ss: %v: %s", err, out)
		}
		if len(out) > 0 {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("host %d has no connection to host %d", from, to)
		}
	}
}

// ip runs iproute2's ip.
func (l *lan) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// breakage is a way to cut a host off from all others, and to mend that.
type breakage struct {
	name      string
	cut, mend func(l *lan, host int)
}

var breakages = []breakage{
	{"port down", // the host sees that its cable is dead
		func(l *lan, host int) { l.ip("-n", l.name, "link", "set", fmt.Sprintf("p%d", host), "down") },
		func(l *lan, host int) { l.ip("-n", l.name, "link", "set", fmt.Sprintf("p%d", host), "up") }},
	{"port without switch", // nobody sees anything: packets go nowhere
		func(l *lan, host int) { l.ip("-n", l.name, "link", "set", fmt.Sprintf("p%d", host), "nomaster") },
		func(l *lan, host int) {
			l.ip("-n", l.name, "link", "set", fmt.Sprintf("p%d", host), "master", "br0")
		}},
	{"no routes", // the kernels refuse to send
		func(l *lan, host int) { l.routes("add", host) },
		func(l *lan, host int) { l.routes("del", host) }},
}

// routes makes or removes black holes between a host and all others.
func (l *lan) routes(do string, host int) {
	l.t.Helper()
	for i := range l.hosts {
		if i != host {
			l.ip("-n", l.host(host), "route", do, "blackhole", l.address(i))
			l.ip("-n", l.host(i), "route", do, "blackhole", l.address(host))
		}
	}
}

// lose drops a hundredth of the packets that come to a host, by a filter of four instructions: take a random number, go on if
// it is above a hundredth of the largest, else drop the packet.
func (l *lan) lose(host int) error {
	const hundredth = 1 << 32 / 100
	code := fmt.Sprintf("4,32 0 0 4294963256,37 0 1 %d,6 0 0 4294967295,6 0 0 2", hundredth)
	if err := l.tc(host, "qdisc", "add", "dev", "eth0", "clsact"); err != nil {
		return err
	}
	return l.tc(host, "filter", "add", "dev", "eth0", "ingress", "bpf", "da", "bytecode", code)
}

// loseAndDelay drops a hundredth of the packets that a host sends, and holds the others for 5 ms.
func (l *lan) loseAndDelay(host int) error {
	return l.tc(host, "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "5ms", "loss", "1%")
}

func (l *lan) tc(host int, args ...string) error {
	out, err := exec.Command("tc", append([]string{"-n", l.host(host)}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("tc %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// dropped returns how many packets lose or loseAndDelay has dropped.
func (l *lan) dropped(host int) (n int) {
	l.t.Helper()
	out, err := exec.Command("tc", "-n", l.host(host), "-s", "qdisc", "show", "dev", "eth0").CombinedOutput()
	if err != nil {
		l.t.Fatalf("tc: %v: %s", err, out)
	}
	for _, m := range droppedPackets.FindAllStringSubmatch(string(out), -1) {
		d, _ := strconv.Atoi(m[1])
		n += d
	}
	return n
}

var droppedPackets = regexp.MustCompile(`\(dropped (\d+),`)

// isolate keeps hosts from each other, while all others reach them.
func (l *lan) isolate(hosts ...int) {
	l.t.Helper()
	l.isolated("on", hosts)
}

// rejoin ends that.
func (l *lan) rejoin(hosts ...int) {
	l.t.Helper()
	l.isolated("off", hosts)
}

func (l *lan) isolated(how string, hosts []int) {
	l.t.Helper()
	for _, h := range hosts {
		l.ip("-n", l.name, "link", "set", fmt.Sprintf("p%d", h), "type", "bridge_slave", "isolated", how)
	}
}

// spawn starts a rank on each of the hosts; one may be named several times.
func (l *lan) spawn(role string, hostOf []int, env ...string) []*child {
	l.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	rendezvous := l.address(hostOf[0]) + ":29500"
	if l.ipv6 {
		rendezvous = "[" + l.address(hostOf[0]) + "]:29500"
	}
	children := make([]*child, len(hostOf))
	for r, h := range hostOf {
		own := append(rankEnvironment(l.t, role, rendezvous, r, len(hostOf)), "HFREDUCE_TRANSPORT="+TransportTCP)
		// ip becomes the program, so that the process is the rank's.
		children[r] = run(l.t, exec.Command("ip", "netns", "exec", l.host(h), exe), append(own, env...)...)
	}
	return children
}
