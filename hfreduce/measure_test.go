// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// linkTest is a short measurement of all sizes, verified.
func linkTest(from, to int, mode LinkMode) LinkTest {
	return LinkTest{From: from, To: to, Mode: mode, Sizes: []int{1, 8, 300, 70_001}, Window: 4, Iters: 30, Warmup: 3, Check: true}
}

// checkLinkResult checks that figures are there, plausible, and of right data.
func checkLinkResult(t LinkTest, r LinkResult, transport string) error {
	if r.Transport != transport || len(r.Figures) != len(t.Sizes) {
		return fmt.Errorf("%d figures over %q, want %d over %q", len(r.Figures), r.Transport, len(t.Sizes), transport)
	}
	checked := 2 * t.Window
	if t.Mode != LinkBandwidth {
		checked *= 2
	}
	for i, f := range r.Figures {
		l := f.Latency
		switch {
		case f.Bytes != t.Sizes[i] || f.Seconds <= 0 || f.Checked != checked || f.Wrong != 0 || f.Fault != "":
			return fmt.Errorf("%v: %+v", t.Mode, f)
		case t.Mode == LinkLatency && (l.Min <= 0 || l.Min > l.Median || l.Median > l.P99 || l.P99 > l.Max || l.Mean < l.Min || l.Mean > l.Max || f.BytesPerSecond != 0):
			return fmt.Errorf("%v: %+v", t.Mode, f)
		case t.Mode != LinkLatency && (f.BytesPerSecond <= 0 || l != LinkTimes{}):
			return fmt.Errorf("%v: %+v", t.Mode, f)
		}
	}
	return nil
}

// measureAll measures in every mode over a world of at least two nodes, whose collectives work before and after.
func measureAll(t *testing.T, comms []*Comm, from, to int, transport string) {
	each(t, comms, func(c *Comm) error {
		for _, mode := range []LinkMode{LinkBandwidth, LinkBoth, LinkLatency} {
			test := linkTest(from, to, mode)
			r, err := c.MeasureLink(context.Background(), test)
			if err == nil {
				err = checkLinkResult(test, r, transport)
			}
			x := []int32{1}
			if err = errors.Join(err, c.AllReduce(context.Background(), Host(x), Host(x), Sum)); err != nil {
				return err
			}
			if int(x[0]) != len(comms) {
				return fmt.Errorf("the sum is %d", x[0])
			}
		}
		if st := c.Stats(); st.AllocatedBytes != 0 {
			return fmt.Errorf("%d bytes are still allocated", st.AllocatedBytes)
		}
		return nil
	})
}

func TestMeasureLink(t *testing.T) {
	measureAll(t, newWorld(t, blocks(2, 2), Options{}), 0, 1, "mem")
	measureAll(t, newWorld(t, blocks(5, 3), Options{}), 4, 0, "mem")
}

func TestMeasureLinkOverTCP(t *testing.T) {
	measureAll(t, initWorld(t, blocks(3, 3), "127.0.0.1", Options{}), 2, 0, "tcp")
}

// A transport like RDMA sends from and receives in registered memory only.
func TestMeasureLinkRegistersMemory(t *testing.T) {
	comms := newWorldOver(t, blocks(2, 2), func(rank int, inner transport.Transport) transport.Transport {
		return &selective{Transport: inner, registered: map[*byte]int{}}
	})
	measureAll(t, comms, 0, 1, "mem")
}

// corrupting flips a bit of every message of more than a few bytes.
type corrupting struct{ transport.Transport }

type corruptingLink struct{ transport.Link }

func (c corrupting) Connect(ctx context.Context, peer int, key string, cfg transport.LinkConfig) (transport.Link, error) {
	l, err := c.Transport.Connect(ctx, peer, key, cfg)
	return corruptingLink{l}, err
}

func (l corruptingLink) Post(m transport.Message) error {
	if len(m.Payload) > 200 { // it has landed when Post returns
		m.Payload = append([]byte(nil), m.Payload...)
		m.Payload[123] ^= 4
	}
	return l.Link.Post(m)
}

func TestMeasureLinkFindsWrongData(t *testing.T) {
	comms := newWorldOver(t, blocks(2, 2), func(rank int, inner transport.Transport) transport.Transport {
		if rank == 0 {
			return corrupting{inner}
		}
		return inner
	})
	each(t, comms, func(c *Comm) error {
		r, err := c.MeasureLink(context.Background(), linkTest(0, 1, LinkBoth))
		if err != nil {
			return err
		}
		for i, f := range r.Figures {
			wrong, fault := 0, ""
			if f.Bytes > 200 {
				wrong, fault = 8, "byte 123 of message"
			}
			if f.Wrong != wrong || !strings.Contains(f.Fault, fault) {
				return fmt.Errorf("figure %d: %+v, want %d wrong", i, f, wrong)
			}
		}
		return nil
	})
}

func TestMeasureLinkBadTests(t *testing.T) {
	comms := newWorld(t, blocks(3, 2), Options{})
	for want, change := range map[string]func(l *LinkTest){
		"ranks 0 and 1 are on one node":             func(l *LinkTest) { l.To = 1 },
		"ranks 2 and 2 are on one node":             func(l *LinkTest) { l.From = 2 },
		"From 0 and To 3 are not both within 0..2":  func(l *LinkTest) { l.To = 3 },
		"From -1 and To 2 are not both within 0..2": func(l *LinkTest) { l.From = -1 },
		"unknown Mode LinkMode(9)":                  func(l *LinkTest) { l.Mode = 9 },
		"there are no Sizes":                        func(l *LinkTest) { l.Sizes = nil },
		"size 0 is not within":                      func(l *LinkTest) { l.Sizes = []int{8, 0} },
		"size 1073741825 is not within":             func(l *LinkTest) { l.Sizes = []int{1<<30 + 1} },
		"Window 0 is not within":                    func(l *LinkTest) { l.Window = 0 },
		"Window 256 of 1073741824 bytes is more":    func(l *LinkTest) { l.Window, l.Sizes = 256, []int{1 << 30} },
		"Iters 0 is not within":                     func(l *LinkTest) { l.Iters = 0 },
		"Warmup -1 is not within":                   func(l *LinkTest) { l.Warmup = -1 },
		"Warmup 10000001 is not within 0..10000000": func(l *LinkTest) { l.Warmup = MaxLinkIters + 1 },
	} {
		test := linkTest(0, 2, LinkBoth)
		change(&test)
		if _, err := comms[1].MeasureLink(context.Background(), test); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrInvalid with %q", err, want)
		}
	}
}

func TestMeasureLinkMismatch(t *testing.T) {
	comms := newWorld(t, blocks(3, 3), Options{})
	failTogether(t, comms, ErrMismatch, "", func(c *Comm) error {
		test := linkTest(0, 1, LinkBandwidth)
		test.Iters += c.Rank() / 2
		_, err := c.MeasureLink(context.Background(), test)
		return err
	})
}

func TestMeasureLinkMissingRank(t *testing.T) {
	comms := newWorld(t, blocks(3, 3), Options{Timeout: 200 * time.Millisecond})
	failTogether(t, comms[:2], ErrTimeout, "not all ranks called it within 200ms", func(c *Comm) error {
		_, err := c.MeasureLink(context.Background(), linkTest(0, 1, LinkBandwidth))
		return err
	})
}

// endless is a measurement that does not end by itself in the time of a test.
func endless(mode LinkMode) LinkTest {
	return LinkTest{From: 0, To: 1, Mode: mode, Sizes: []int{8}, Window: 8, Iters: MaxLinkIters, Warmup: MaxLinkIters}
}

func TestMeasureLinkEndsWithContext(t *testing.T) {
	for _, mode := range []LinkMode{LinkBandwidth, LinkBoth, LinkLatency} {
		comms := newWorld(t, blocks(3, 3), Options{})
		failTogether(t, comms, ErrAborted, "the context ended", func(c *Comm) error {
			ctx := context.Background()
			if c.Rank() == 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
			}
			_, err := c.MeasureLink(ctx, endless(mode))
			return err
		})
	}
}

func TestMeasureLinkEndsWithAbort(t *testing.T) {
	comms := initWorld(t, blocks(2, 2), "127.0.0.1", Options{})
	var once sync.Once
	failTogether(t, comms, ErrAborted, "enough", func(c *Comm) error {
		if c.Rank() == 1 {
			time.AfterFunc(20*time.Millisecond, func() { once.Do(func() { c.Abort(errors.New("enough")) }) })
		}
		_, err := c.MeasureLink(context.Background(), endless(LinkLatency))
		return err
	})
}

// silent takes messages to the peer and drops them.
type silent struct{ transport.Transport }

type silentLink struct{ transport.Link }

func (s silent) Connect(ctx context.Context, peer int, key string, cfg transport.LinkConfig) (transport.Link, error) {
	l, err := s.Transport.Connect(ctx, peer, key, cfg)
	return silentLink{l}, err
}

func (silentLink) Post(transport.Message) error { return nil }

func TestMeasureLinkStall(t *testing.T) {
	comms := newWorldOver(t, blocks(2, 2), func(_ int, inner transport.Transport) transport.Transport { return silent{inner} })
	for _, c := range comms {
		c.opts.Timeout = 200 * time.Millisecond
	}
	failTogether(t, comms, ErrTimeout, "nothing came from rank", func(c *Comm) error {
		_, err := c.MeasureLink(context.Background(), linkTest(0, 1, LinkBandwidth))
		return err
	})
}
