// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// flipper counts the messages of a world that have a payload and flips a bit of one of them on its way.
type flipper struct {
	mu       sync.Mutex
	rng      *rand.Rand
	messages int
	at       int    // the message to spoil, -1 for none
	hop      string // once it is spoilt: whose it is, and to whom
}

// arm makes the flipper spoil one of the next n messages.
func (f *flipper) arm(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.hop = f.messages+f.rng.IntN(n), ""
}

// sent returns the number of messages so far.
func (f *flipper) sent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.messages
}

// pass returns the payload as it arrives.
func (f *flipper) pass(payload []byte, from, to int, name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(payload) == 0 {
		return payload
	}
	if f.messages++; f.messages-1 != f.at {
		return payload
	}
	payload = bytes.Clone(payload)
	payload[f.rng.IntN(len(payload))] ^= 1 << f.rng.IntN(8)
	f.hop = fmt.Sprintf("rank %d -> rank %d (%s, ", from, to, name)
	return payload
}

// flipping is a transport whose messages go through a flipper.
type flipping struct {
	transport.Transport
	rank int
	by   *flipper
}

func (f flipping) Connect(ctx context.Context, peer int, key string, cfg transport.LinkConfig) (transport.Link, error) {
	l, err := f.Transport.Connect(ctx, peer, key, cfg)
	if err != nil {
		return nil, err
	}
	spoilt := &flippingLink{l, f}
	if r, ok := l.(transport.Redirector); ok {
		return &struct {
			*flippingLink
			transport.Redirector
		}{spoilt, r}, nil
	}
	return spoilt, nil
}

type flippingLink struct {
	transport.Link
	of flipping
}

func (l *flippingLink) Post(m transport.Message) error {
	m.Payload = l.of.by.pass(m.Payload, l.of.rank, l.Peer(), l.Transport())
	return l.Link.Post(m)
}

// flippingWorld returns a world whose messages go through a flipper, in memory or over TCP.
func flippingWorld(t *testing.T, nodeOf []int, o Options, overTCP bool) ([]*Comm, *flipper) {
	t.Helper()
	f := &flipper{rng: rand.New(rand.NewPCG(uint64(len(nodeOf)), 7)), at: -1}
	if !overTCP {
		return newWorldOverWith(t, nodeOf, o, func(rank int, inner transport.Transport) transport.Transport {
			return flipping{inner, rank, f}
		}), f
	}
	o.Transport = TransportTCP
	comms := initWorld(t, nodeOf, "127.0.0.1", o)
	for r, c := range comms { // no link is made yet
		p := c.fabric.fabric.(*processFabric)
		p.transport_ = flipping{p.transport_, r, f}
	}
	return comms, f
}

// kinds are calls of all collectives with data, of count elements for each rank.
func kinds(count int) map[string]func(c *Comm) error {
	ctx := context.Background()
	fresh := func(c *Comm, n int) Buffer { return Bytes(random(TypeInt32, n, c.Rank(), 3), TypeInt32) }
	return map[string]func(c *Comm) error{
		"AllReduce": func(c *Comm) error {
			x := fresh(c, count)
			return c.AllReduce(ctx, x, x, Sum)
		},
		"Reduce":    func(c *Comm) error { return c.Reduce(ctx, fresh(c, count), fresh(c, count), Sum, c.WorldSize()-1) },
		"Broadcast": func(c *Comm) error { return c.Broadcast(ctx, fresh(c, count), fresh(c, count), 1) },
		"ReduceScatter": func(c *Comm) error {
			return c.ReduceScatter(ctx, fresh(c, count), fresh(c, count*c.WorldSize()), Sum)
		},
		"AllGather": func(c *Comm) error { return c.AllGather(ctx, fresh(c, count*c.WorldSize()), fresh(c, count)) },
	}
}

// TestSpoiltMessage flips one bit of one message between nodes: every rank gets ErrCorrupt, which names the sender, the receiver
// and what carried it.
func TestSpoiltMessage(t *testing.T) {
	for _, layout := range []string{"2x1", "3x1", "2x2", "5on2", "strided", "4x2"} {
		for _, count := range []int{1, 700, 20_000} {
			for name, call := range kinds(count) {
				for _, overTCP := range []bool{false, true} {
					if overTCP && (count == 700 || layout == "strided" || layout == "2x2") {
						continue
					}
					t.Run(fmt.Sprintf("%s/%s/%d/tcp=%t", layout, name, count, overTCP), func(t *testing.T) {
						t.Parallel()
						comms, f := flippingWorld(t, layouts[layout], Options{ChunkBytes: 8192, Slots: 2, Checksum: true}, overTCP)
						each(t, comms, call)
						each(t, comms, func(c *Comm) error { return c.Barrier(t.Context()) }) // all messages are sent
						n := f.sent()
						f.arm(n)
						failTogether(t, comms, ErrCorrupt, "", func(c *Comm) error { return errors.Join(call(c), c.Barrier(context.Background())) })
						if cause := (*comms[0].cause.Load()).Error(); f.hop == "" || !strings.Contains(cause, f.hop) || !strings.Contains(cause, "CRC32C") {
							t.Errorf("of %d messages that of %q was spoilt; the cause is %v", n, f.hop, cause)
						}
					})
				}
			}
		}
	}
}

// TestSpoiltMemory flips one bit of what rank 1 has put into the node's segment, before others read it.
func TestSpoiltMemory(t *testing.T) {
	for _, np := range []int{2, 4} {
		for _, count := range []int{1, 11, 12, 700, 20_000} {
			for name, call := range kinds(count) {
				t.Run(fmt.Sprintf("%d/%s/%d", np, name, count), func(t *testing.T) {
					t.Parallel()
					comms := newWorld(t, blocks(np, 1), Options{ChunkBytes: 8192, Slots: 32, OnePassBytes: 4096, Checksum: true})
					staged := make(chan struct{})
					failTogether(t, comms, ErrCorrupt, "rank 1 -> rank ", func(c *Comm) error {
						if c.Rank() == 0 {
							spoil(t, comms[1], random(TypeInt32, count, 1, 3)[:4])
							close(staged)
						}
						if c.Rank() != 1 {
							<-staged
						}
						return errors.Join(call(c), c.Barrier(context.Background()))
					})
					if cause := (*comms[0].cause.Load()).Error(); !strings.Contains(cause, "(shared memory, ") || !strings.Contains(cause, "input)") {
						t.Errorf("the cause is %v", cause)
					}
				})
			}
		}
	}
}

// spoil waits until a rank has put into the segment what it can, and flips a bit of data there that it is known by.
func spoil(t *testing.T, c *Comm, known []byte) {
	deadline := time.Now().Add(20 * time.Second)
	for !c.bell.Armed() {
		if time.Sleep(10 * time.Microsecond); time.Now().After(deadline) {
			t.Error("the rank does not wait for others")
			return
		}
	}
	at := bytes.Index(c.segment.Base(), known)
	if at < 0 {
		t.Error("the segment does not hold the rank's input")
		return
	}
	c.segment.Base()[at+3] ^= 0x10
}

// TestSpoiltMessageOfDevices: as TestSpoiltMessage where GPUs fill the slots.
func TestSpoiltMessageOfDevices(t *testing.T) {
	for _, count := range []int{100, 200_000} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			nodeOf := blocks(2, 2)
			_, gpus := newGPUWorld(t, nodeOf, smallDeviceChunks)
			o := smallDeviceChunks
			o.CUDA, o.Checksum = CUDAOn, true
			comms, f := flippingWorld(t, nodeOf, o, false)
			in := inputs(TypeFloat32, count, len(comms), 3)
			call := func(c *Comm) error {
				g := gpus[c.Rank()]
				defer func() { g.used = 0 }()
				p, err := g.put(in[c.Rank()])
				if err != nil {
					return err
				}
				b := Device(p, count, TypeFloat32, g.stream)
				return c.AllReduce(context.Background(), b, b, Sum)
			}
			each(t, comms, call)
			f.arm(f.sent())
			failTogether(t, comms, ErrCorrupt, "", func(c *Comm) error { return errors.Join(call(c), c.Barrier(context.Background())) })
			if cause := (*comms[0].cause.Load()).Error(); f.hop == "" || !strings.Contains(cause, f.hop) {
				t.Errorf("the message of %q was spoilt; the cause is %v", f.hop, cause)
			}
		})
	}
}

// TestNoFalseAlarm makes collectives of all kinds with checksums until a number of chunks has been compared.
func TestNoFalseAlarm(t *testing.T) {
	want := uint64(50_000)
	if os.Getenv("HFREDUCE_TEST_LONG") != "" {
		want = 1_000_000
	}
	worlds := []string{"1x4", "2x1", "2x2", "5on2", "4x2"}
	compared := uint64(0)
	for _, layout := range worlds {
		comms := newWorld(t, layouts[layout], Options{ChunkBytes: 4096, Slots: 4, OnePassBytes: 1024, Checksum: true, VerifyResults: true})
		calls := slices.Concat([]func(*Comm) error{}, ordered(kinds(5)), ordered(kinds(300)), ordered(kinds(50_000)))
		var here uint64
		for round := 0; here < want/uint64(len(worlds))+1; round++ {
			each(t, comms, calls[round%len(calls)])
			here = 0
			for _, c := range comms {
				here += c.engine.Counters().Checked.Load()
			}
		}
		compared += here
	}
	if compared < want {
		t.Errorf("%d chunks were compared, want %d", compared, want)
	}
	t.Logf("%d chunks compared, no alarm", compared)
}

// ordered returns the calls in the order of their names.
func ordered(calls map[string]func(c *Comm) error) (all []func(c *Comm) error) {
	var names []string
	for name := range calls {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		all = append(all, calls[name])
	}
	return all
}
