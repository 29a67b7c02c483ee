// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/transporttest"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
	"github.com/hfreduce/hfreduce/internal/testreq"
	"github.com/hfreduce/hfreduce/rdma"
)

// bedVariable is set in the virtual machine of testdata/rdmavm: device rxeN is behind the bridge port pN.
const bedVariable = "HFREDUCE_TEST_RDMA_BED"

// bed returns two devices of the test bed and a function that runs a command on the bridge port of the second one.
func bed(t *testing.T) (names []string, run func(command string)) {
	t.Helper()
	names = devices(t)
	if os.Getenv(bedVariable) == "" || len(names) < 2 {
		testreq.Missing(t, "rdmabed", bedVariable+" is not set, or there are not two devices")
	}
	port := "p" + strings.TrimPrefix(names[1], "rxe")
	return names[:2], func(command string) {
		t.Helper()
		args := strings.Fields(strings.ReplaceAll(command, "PORT", port))
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
}

// stream is a pair of links whose ends are polled by hand, with areas in registered memory.
type stream struct {
	t        *testing.T
	links    [2]*Link
	areas    [2][][]byte
	payloads [2][]byte
	busy     bool // an item is on its way out
}

const (
	streamSlots = 4
	streamBytes = 64 << 10
)

// newStream connects ranks 0 and 1, a device each.
func newStream(t *testing.T, names []string, change func(rank int, c *Config)) *stream {
	t.Helper()
	ts := newWorld(t, 2, func(r int, c *Config) {
		c.Devices, c.Required, c.Timeout, c.Retry = names[r%len(names):][:1], true, 14, 3
		if change != nil {
			change(r, c)
		}
	})
	a := newArena(t, 4<<20)
	a.register(t, ts)
	s := &stream{t: t}
	links, errs := s.connect(a, ts, "stream")
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	for r, l := range links {
		s.links[r] = l.(*Link)
		l.Grant(streamSlots)
	}
	return s
}

// connect makes the link between the two transports.
func (s *stream) connect(a *arena, ts []*Transport, key string) (links [2]transport.Link, errs [2]error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	done := make(chan int)
	for r := range ts {
		s.areas[r] = nil
		for range streamSlots {
			s.areas[r] = append(s.areas[r], a.take(streamBytes))
		}
		s.payloads[r] = a.take(streamBytes)
		cfg := transport.LinkConfig{Landings: s.areas[r], Bell: transporttest.NewSharedBell(s.t), Window: streamSlots}
		go func() {
			links[r], errs[r] = ts[r].Connect(ctx, 1-r, key, cfg)
			done <- r
		}()
	}
	for range ts {
		r := <-done
		if l := links[r]; l != nil {
			s.t.Cleanup(func() { l.Close() })
		}
	}
	return links, errs
}

// outcome is how a transfer ended at both ends.
type outcome struct {
	errs [2]error
	at   [2]time.Time
}

// transfer sends items from rank 0 to rank 1 until n have been received, or both links are broken. The data is verified.
// Each end has its own goroutine, on which during is called with the number of items that it has posted or received.
func (s *stream) transfer(n uint32, during [2]func(count uint32)) (o outcome) {
	s.t.Helper()
	var wg sync.WaitGroup
	var finished atomic.Bool
	for r, move := range []func(count *uint32) error{s.send, s.receive} {
		wg.Go(func() {
			count := uint32(0)
			deadline := time.Now().Add(30 * time.Second)
			for !finished.Load() && o.errs[r] == nil {
				if time.Now().After(deadline) {
					s.t.Errorf("rank %d: neither the end nor an error within 30 s: %d items", r, count)
					return
				}
				if o.errs[r] = move(&count); o.errs[r] != nil {
					o.at[r] = time.Now()
					return
				}
				if during[r] != nil {
					during[r](count)
				}
				if r == 1 && count >= n {
					finished.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return o
}

// send posts an item if it may and the one before is sent.
func (s *stream) send(posted *uint32) error {
	l := s.links[0]
	if !s.busy && transport.Before(*posted, l.Limit()) {
		pattern(s.payloads[0], *posted)
		m := transport.Message{Landing: *posted % streamSlots, Seq: *posted, Payload: s.payloads[0]}
		if err := l.Post(m); err != nil {
			return err
		}
		*posted++
		s.busy = true
	}
	var ev [4]transport.Event
	n, err := l.Poll(ev[:])
	if n > 0 {
		s.busy = false
	}
	return err
}

// receive verifies items and grants the next ones.
func (s *stream) receive(received *uint32) error {
	var ev [4]transport.Event
	n, err := s.links[1].Poll(ev[:])
	for _, e := range ev[:n] {
		s.verify(e, *received)
		*received++
		s.links[1].Grant(*received + streamSlots)
	}
	return err
}

func (s *stream) verify(e transport.Event, want uint32) {
	s.t.Helper()
	if e.Seq != want {
		s.t.Errorf("item %d came where item %d should", e.Seq, want)
		return
	}
	expected := make([]byte, streamBytes)
	pattern(expected, want)
	if !bytes.Equal(s.areas[1][e.Landing], expected) {
		s.t.Errorf("item %d arrived with wrong data", want)
	}
}

func pattern(b []byte, seed uint32) {
	for i := range b {
		b[i] = byte(seed*31) + byte(i*7) + byte(i>>8)
	}
}

// checkBroken checks that both ends are broken and that the first one's error has the words.
func checkBroken(t *testing.T, o outcome, words string) {
	t.Helper()
	for r, err := range o.errs {
		var pe *transport.PeerError
		if !errors.As(err, &pe) || pe.Peer != 1-r || errors.Is(err, transport.ErrPeerClosed) {
			t.Errorf("rank %d: got %v, want a PeerError of rank %d", r, err, 1-r)
		}
	}
	if o.errs[0] == nil || !strings.Contains(o.errs[0].Error(), words) {
		t.Errorf("the sender's error %v does not say %q", o.errs[0], words)
	}
}

// once calls f when the count is reached.
func once(at uint32, f func()) func(count uint32) {
	return func(count uint32) {
		if f != nil && count == at {
			f()
			f = nil
		}
	}
}

// TestQueuePairFails: an own queue pair in the error state breaks the link at once, at both ends.
func TestQueuePairFails(t *testing.T) {
	s := newStream(t, devices(t), nil)
	var began time.Time
	o := s.transfer(1<<20, [2]func(uint32){once(20, func() {
		began = time.Now()
		if err := s.links[0].lanes[0].qp.Fail(); err != nil {
			t.Error(err)
		}
	})})
	checkBroken(t, o, "IBV_WC_WR_FLUSH_ERR")
	for r := range 2 {
		if took := o.at[r].Sub(began); took > time.Second {
			t.Errorf("rank %d saw it after %v", r, took)
		}
	}
}

// TestEventsBreakLinks: what a device tells of itself breaks the links that can't go on.
func TestEventsBreakLinks(t *testing.T) {
	for kind, want := range map[rdma.EventKind][2]bool{ // of the links over the two devices
		rdma.EventDeviceFatal: {true, false}, rdma.EventCQError: {true, false}, rdma.EventPortError: {}, rdma.EventGIDChange: {},
	} {
		x := New(Config{})
		var links [2]*Link
		for i, device := range []string{"a0", "a1"} {
			links[i] = &Link{bell: wait.NewChan()}
			x.lanes[laneID{device, 7}] = links[i]
		}
		(&port{endpoint: endpoint{Device: "a0", Port: 1}, number: 1}).heed(x, rdma.Event{Kind: kind})
		for i, l := range links {
			if got := l.alarm.Load() != nil; got != want[i] {
				t.Errorf("%v: the link over a%d breaks: %t, want %t", kind, i, got, want[i])
			}
		}
	}
}

// TestAbandonedLinkIsForgotten: a context that ends when the link is there already leaves nothing that an event would ring.
func TestAbandonedLinkIsForgotten(t *testing.T) {
	s := newStream(t, devices(t), nil)
	l := s.links[0]
	l.err = transport.ErrClosed
	if err := errors.Join(l.abandon(), l.side.close()); err != nil {
		t.Error(err)
	}
	if n := len(l.of.lanes); n != 0 {
		t.Errorf("%d queue pairs that are closed still get events", n)
	}
}

// TestWrongKey: a write to memory that the peer has not registered breaks the link at both ends, and says so.
func TestWrongKey(t *testing.T) {
	s := newStream(t, devices(t), nil)
	o := s.transfer(1<<20, [2]func(uint32){once(20, func() { s.links[0].lanes[0].peerKeys.Regions[0] ^= 0x5500 })})
	checkBroken(t, o, "IBV_WC_REM_ACCESS_ERR")
}

// arpTime is how long rxe may hold the thread of the rank whose own port is down within a post: until the kernel has given
// up asking for the peer's address.
const arpTime = 4 * time.Second

// TestPortDown: a port that goes down in the middle of a transfer breaks the link at both ends within the configured bound;
// when it is back, new links work.
func TestPortDown(t *testing.T) {
	names, run := bed(t)
	s := newStream(t, names, nil)
	bound := s.links[0].of.cfg.LostAfter()
	var began time.Time
	o := s.transfer(1<<20, [2]func(uint32){once(50, func() {
		began = time.Now()
		run("ip link set PORT down")
	})})
	run("ip link set PORT up")
	checkBroken(t, o, "IBV_WC_RETRY_EXC_ERR")
	took := [2]time.Duration{o.at[0].Sub(began), o.at[1].Sub(began)}
	t.Logf("broken after %v; configured are %v", took, bound)
	if took[0] > bound+time.Second || took[1] > bound+time.Second+arpTime {
		t.Errorf("it took %v, configured are %v", took, bound)
	}
	waitActive(t, names[1])
	again := newStream(t, names, func(_ int, c *Config) { c.Retry = 6 })
	if o := again.transfer(50, [2]func(uint32){}); o.errs != [2]error{} {
		t.Errorf("after the port came back: %v", o.errs)
	}
}

// waitActive waits until a device can reach the others again.
func waitActive(t *testing.T, name string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var p *port
		if p, err = openPort(&Config{GIDIndex: -1}, name); err == nil {
			p.close()
			return
		}
	}
	t.Fatalf("%s is not active again: %v", name, err)
}

// TestAddressChanges: a link that is made after an address has moved to another entry of the GID table, or went, knows that.
func TestAddressChanges(t *testing.T) {
	names, run := bed(t)
	ts := newWorld(t, 1, func(_ int, c *Config) { c.Devices = names[1:] })
	address := netip.MustParseAddr("10.9.77.7")
	offers := func() bool {
		o := ts[0].offer(&transport.LinkConfig{})
		if o.Refuse != "" {
			t.Fatal(o.Refuse)
		}
		return slices.ContainsFunc(o.Endpoints[0].GIDs, func(g gid) bool { return g.Raw.Addr() == address })
	}
	if offers() {
		t.Fatalf("%v is offered before it is there", address)
	}
	for _, c := range []struct {
		verb string
		want bool
	}{{"add", true}, {"del", false}} {
		run("ip addr " + c.verb + " 10.9.77.7/32 dev " + strings.Replace(names[1], "rxe", "h", 1))
		deadline := time.Now().Add(5 * time.Second)
		for offers() != c.want && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		if offers() != c.want {
			t.Errorf("5 s after ip addr %s: %v is offered: %t", c.verb, address, !c.want)
		}
	}
}

// TestPacketLoss: one packet in a hundred is lost, and nothing else.
func TestPacketLoss(t *testing.T) {
	names, run := bed(t)
	run("tc qdisc add dev PORT root netem loss 1% limit 100000")
	defer run("tc qdisc del dev PORT root")
	s := newStream(t, names, func(_ int, c *Config) { c.Retry = 6 })
	if o := s.transfer(200, [2]func(uint32){}); o.errs != [2]error{} {
		t.Errorf("got %v", o.errs)
	}
}

// TestUnprovenPath: a pair of ports over which no message gets through is found when the link is made, and named: an error
// where RDMA is demanded, else the link goes over TCP.
func TestUnprovenPath(t *testing.T) {
	names, run := bed(t)
	for _, required := range []bool{true, false} {
		for fault, commands := range map[string][2]string{
			"lossy":       {"tc qdisc add dev PORT root netem loss 100%", "tc qdisc del dev PORT root"},
			"smaller MTU": {"ip link set PORT mtu 1500", "ip link set PORT mtu 9000"}, // short packets get through
		} {
			t.Run(fmt.Sprintf("required %v, %s", required, fault), func(t *testing.T) {
				ts := newWorld(t, 2, func(r int, c *Config) { c.Devices, c.Required, c.Timeout, c.Retry = names[r:][:1], required, 14, 3 })
				a := newArena(t, 4<<20)
				a.register(t, ts)
				run(commands[0])
				defer run(commands[1])
				s := &stream{t: t}
				links, errs := s.connect(a, ts, "unproven")
				for r := range 2 {
					switch path := names[0] + ":1"; {
					case required && (errs[r] == nil || !strings.Contains(errs[r].Error(), path)):
						t.Errorf("rank %d: got %v, want an error that names %s", r, errs[r], path)
					case !required && (errs[r] != nil || links[r].Transport() != "tcp"):
						t.Errorf("rank %d: got %v, want a link over TCP", r, errs[r])
					}
				}
			})
		}
	}
}
