// SPDX-License-Identifier: Apache-2.0

// Package probe measures a link between two ranks as perftest measures one between two adapters, over what carries the data
// of collectives: package transport.
//
// Both ends call Run with the same settings. For each size they go through the same phases, each of which begins when the
// other end has ended the one before (a message of no bytes each way):
//
//	Warmup messages ─ Iters timed messages ─ if Check: 2*Window messages of known bytes, not timed
//
// # What is timed
//
// One way, the first end's clock runs from before its first post until the second end has granted the slot behind the last
// message, i.e. has received all: the last grant's way back is in the figure, nothing else is. Both ways, each end does that
// and receives meanwhile. Up to Window messages are in flight, each from and to a slot of its own, as the chunks of a
// collective are, and the receiver grants a slot again as soon as a message has landed in it. Ping-pong is one message at a
// time, there and back; a sample is half of that, and the clock is read once for each.
//
// While they wait both ends look at the link all the time; where the ranks have no core each, they pass it on between looks,
// as the engine does, but they never sleep.
package probe

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// Kind is what is measured.
type Kind uint8

// The kinds.
const (
	OneWay   Kind = iota // bandwidth from the first end to the second
	BothWays             // bandwidth, both directions at once
	PingPong             // latency
)

// Config is what the two ends of a link must agree on, and how this end waits.
type Config struct {
	Kind          Kind
	First         bool  // this is the first end: it sends one way and times the ping-pong
	Sizes         []int // bytes of a message, one after the other
	Window        int   // messages in flight
	Iters, Warmup int   // messages of each direction
	Check         bool

	Policy  wait.Policy
	Timeout time.Duration // without any event, before Run gives up; 0: none
	Silence time.Duration // of the link (transport.Prober), before it counts as broken; 0: nobody looks
}

// Figure is what one end found out about a size.
type Figure struct {
	Seconds        float64 // that Iters messages took; 0 at an end that measures nothing
	Latency        Latency // of PingPong, at the first end
	Checked, Wrong int     // messages received
	Fault          string  // what is wrong with the first of Wrong
}

// Latency describes half the round trips.
type Latency struct{ Min, Median, Mean, P99, Max time.Duration }

// StallError says that nothing came from the other end.
type StallError struct {
	Peer  int // rank
	After time.Duration
}

// Error returns one line.
func (e *StallError) Error() string {
	return fmt.Sprintf("nothing came from rank %d for %v", e.Peer, e.After)
}

const slotAlign = 4096

// slot returns the distance of two slots in bytes.
func (c *Config) slot() int {
	return (max(1, slices.Max(c.Sizes)) + slotAlign - 1) / slotAlign * slotAlign
}

// Bytes returns how much memory Run needs to send from, and as much to receive in.
func (c *Config) Bytes() int { return c.Window * c.slot() }

// areas cuts memory into slots.
func (c *Config) areas(mem []byte) [][]byte {
	all := make([][]byte, c.Window)
	for i := range all {
		from := i * c.slot()
		all[i] = mem[from : from+c.slot() : from+c.slot()]
	}
	return all
}

// LinkConfig returns how to make the link, whose messages land in the given memory.
func (c *Config) LinkConfig(in []byte) transport.LinkConfig {
	return transport.LinkConfig{Landings: c.areas(in), Bell: awake{}, Window: uint32(c.Window), MaxPosts: c.posts()}
}

// posts is how many posts may be outstanding: a grant can be back before the post that it follows is reported Sent.
func (c *Config) posts() int { return 2 * c.Window }

// awake is the bell of an owner that never sleeps.
type awake struct{}

func (awake) Ring()                       {}
func (awake) Arm()                        {}
func (awake) Disarm()                     {}
func (awake) Armed() bool                 { return false }
func (awake) Sleep(time.Duration) bool    { return true }
func (awake) Watch(int, bool, bool) error { return nil }
func (awake) Close() error                { return nil }

// Run measures over a link made with LinkConfig. It sends from out and receives in in, each Bytes() long and known to the
// transport. When it returns without error the other end needs nothing more of this one; the caller closes the link.
func Run(ctx context.Context, cfg *Config, link transport.Link, out, in []byte) ([]Figure, error) {
	e := newEnd(ctx, cfg, link, out, in)
	stop := context.AfterFunc(ctx, func() { e.stop.Store(true) })
	defer stop()
	figures := make([]Figure, len(cfg.Sizes))
	for i, size := range cfg.Sizes {
		if err := e.measure(size, &figures[i]); err != nil {
			return nil, fmt.Errorf("%d bytes: %w", size, err)
		}
	}
	if err := e.part(); err != nil {
		return nil, err
	}
	return figures, nil
}

// measure takes a size through its phases.
func (e *end) measure(size int, f *Figure) error {
	run, n := e.bulk, e.cfg.Iters
	if e.cfg.Kind == PingPong {
		run = e.pingPong
	}
	for _, phase := range []func() error{
		e.meet, func() error { return run(e.cfg.Warmup, size, nil) }, e.meet, func() error { return run(n, size, f) }, e.meet,
	} {
		if err := phase(); err != nil {
			return err
		}
	}
	if !e.cfg.Check {
		return nil
	}
	return e.check(size, f)
}

// bulk sends or receives messages, or both, as fast as they go.
func (e *end) bulk(n, size int, f *Figure) error {
	out, in := e.share(n)
	start := time.Now()
	err := e.stream(out, in, size, true)
	if took := time.Since(start); f != nil && out > 0 {
		f.Seconds = took.Seconds()
	}
	return err
}

// share returns how many of n messages this end sends and how many it receives.
func (e *end) share(n int) (out, in int) {
	switch {
	case e.cfg.Kind != OneWay:
		return n, n
	case e.cfg.First:
		return n, 0
	}
	return 0, n
}

// pingPong sends n messages there and back, one at a time.
func (e *end) pingPong(n, size int, f *Figure) error {
	e.begin(n, size)
	if !e.cfg.First {
		for range n {
			if err := e.receive(); err != nil {
				return err
			}
			if err := e.send(size); err != nil {
				return err
			}
		}
		return nil
	}
	samples := make([]time.Duration, n)
	start := time.Now()
	before := time.Duration(0)
	for i := range samples {
		if err := e.send(size); err != nil {
			return err
		}
		if err := e.receive(); err != nil {
			return err
		}
		now := time.Since(start)
		samples[i] = (now - before) / 2
		before = now
	}
	if f != nil {
		f.Seconds, f.Latency = before.Seconds(), latencyOf(samples, before)
	}
	return nil
}

// latencyOf sums up at least one sample. took is the time of all round trips together.
func latencyOf(samples []time.Duration, took time.Duration) Latency {
	slices.Sort(samples)
	n := len(samples)
	return Latency{
		Min: samples[0], Median: samples[n/2], Mean: took / time.Duration(2*n), P99: samples[(n*99+99)/100-1], Max: samples[n-1],
	}
}
