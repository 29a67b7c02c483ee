// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/probe"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// LinkMode is what Comm.MeasureLink measures.
type LinkMode uint8

// The modes.
const (
	LinkBandwidth LinkMode = LinkMode(probe.OneWay)   // from LinkTest.From to LinkTest.To
	LinkBoth      LinkMode = LinkMode(probe.BothWays) // bandwidth of both directions at once
	LinkLatency   LinkMode = LinkMode(probe.PingPong) // one message at a time, there and back
)

// String returns the name: "bandwidth", "both" or "latency".
func (m LinkMode) String() string {
	switch m {
	case LinkBandwidth:
		return "bandwidth"
	case LinkBoth:
		return "both"
	case LinkLatency:
		return "latency"
	}
	return fmt.Sprintf("LinkMode(%d)", uint8(m))
}

// Bounds of a LinkTest.
const (
	MaxLinkBytes  = 1 << 30 // of a message
	MaxLinkWindow = 256     // messages in flight
	MaxLinkIters  = 10_000_000
	// MaxLinkMemory is what a rank may need to send from, and once more to receive in: LinkTest.Window of the largest message.
	MaxLinkMemory = 8 << 30
)

// LinkTest says what Comm.MeasureLink measures. It must be equal on all ranks.
type LinkTest struct {
	From, To int // ranks on different nodes
	Mode     LinkMode
	Sizes    []int // bytes of a message, in this order; 1..MaxLinkBytes
	Window   int   // messages in flight, for bandwidth; 1..MaxLinkWindow
	Iters    int   // timed messages of each size and direction; 1..MaxLinkIters
	Warmup   int   // messages before that; 0..MaxLinkIters
	Check    bool  // afterwards, verify the bytes of some messages, untimed
}

// LinkResult is what Comm.MeasureLink found, the same on all ranks.
type LinkResult struct {
	Transport string       // what carried the messages: "tcp", "verbs" or "mem"
	Figures   []LinkFigure // one for each of LinkTest.Sizes
}

// LinkFigure is what was found out about a size.
type LinkFigure struct {
	Bytes          int       // of a message
	Seconds        float64   // for a message: the whole time divided by Iters, for LinkLatency by twice that
	BytesPerSecond float64   // for LinkBoth of both directions together; 0 for LinkLatency
	Latency        LinkTimes // for LinkLatency
	Checked, Wrong int       // messages that were verified, and how many of them were wrong
	Fault          string    // what was wrong with the first, "" if none was
}

// LinkTimes describe halves of round trips.
type LinkTimes struct{ Min, Median, Mean, P99, Max time.Duration }

// check lists what is wrong with a test.
func (t *LinkTest) check(c *Comm) error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	ranks := c.WorldSize()
	within := t.From >= 0 && t.From < ranks && t.To >= 0 && t.To < ranks
	fault(!within, "From %d and To %d are not both within 0..%d", t.From, t.To, ranks-1)
	fault(within && c.layout.NodeOf(t.From) == c.layout.NodeOf(t.To), "ranks %d and %d are on one node, where ranks share memory: no link leads from one to the other", t.From, t.To)
	fault(t.Mode > LinkLatency, "unknown Mode %v", t.Mode)
	fault(len(t.Sizes) == 0, "there are no Sizes")
	largest := 0
	for _, s := range t.Sizes {
		fault(s < 1 || s > MaxLinkBytes, "size %d is not within 1..%d", s, MaxLinkBytes)
		largest = max(largest, s)
	}
	fault(t.Window < 1 || t.Window > MaxLinkWindow, "Window %d is not within 1..%d", t.Window, MaxLinkWindow)
	fault(t.Window > 0 && largest > MaxLinkMemory/t.Window, "Window %d of %d bytes is more than %d bytes", t.Window, largest, int64(MaxLinkMemory))
	fault(t.Iters < 1 || t.Iters > MaxLinkIters, "Iters %d is not within 1..%d", t.Iters, MaxLinkIters)
	fault(t.Warmup < 0 || t.Warmup > MaxLinkIters, "Warmup %d is not within 0..%d", t.Warmup, MaxLinkIters)
	if err := errors.Join(errs...); err != nil {
		return invalidf("%w", err)
	}
	return nil
}

// MeasureLink measures bandwidth or latency between two ranks on different nodes, over a link of their own that is made and
// closed again by the transport that carries the collectives' data. All ranks call it, as a collective; those that are
// neither From nor To wait, asleep. Collectives may run at the same time, but share the network and the processors. Its
// progress is bounded as that of collectives is. Wrong data is told in the result; an error breaks the Comm, as that of a
// collective does.
func (c *Comm) MeasureLink(ctx context.Context, t LinkTest) (LinkResult, error) {
	err := c.usable()
	if err == nil {
		err = t.check(c)
	}
	if err != nil {
		return LinkResult{}, &OpError{Op: "MeasureLink", Rank: c.rank, Err: err}
	}
	m := linkMeasurement{comm: c, test: &t, key: fmt.Sprintf("%s/link/%d", c.uid, c.tests.Add(1)), peer: -1}
	switch c.rank {
	case t.From:
		m.peer = t.To
	case t.To:
		m.peer = t.From
	}
	r, err := m.run(ctx)
	if err != nil {
		return LinkResult{}, &OpError{Op: "MeasureLink", Rank: c.rank, Err: m.settle(ctx, err)}
	}
	return r, nil
}

// linkMeasurement is a call of MeasureLink.
type linkMeasurement struct {
	comm *Comm
	test *LinkTest
	key  string // names it among all of the Comm
	peer int    // -1 if this rank only waits
}

// linkReport is what each of the two ranks tells all ranks.
type linkReport struct {
	Transport string
	Figures   []probe.Figure
}

// run agrees on the test, measures, and gathers what the two ranks found.
func (m *linkMeasurement) run(ctx context.Context) (LinkResult, error) {
	ctx, stop := m.comm.whileAlive(ctx)
	defer stop()
	if err := m.agree(ctx); err != nil {
		return LinkResult{}, err
	}
	var mine []byte
	if m.peer >= 0 {
		report, err := m.measure(ctx)
		if err == nil {
			mine, err = json.Marshal(report)
		}
		if err != nil {
			return LinkResult{}, err
		}
	}
	all, err := m.comm.fabric.exchange(ctx, m.key+"/result", m.comm.members, mine)
	if err != nil {
		return LinkResult{}, err
	}
	var ends [2]linkReport
	for i, rank := range [...]int{m.test.From, m.test.To} {
		if err := json.Unmarshal(all[rank], &ends[i]); err != nil {
			return LinkResult{}, fmt.Errorf("rank %d sent an unreadable result: %w", rank, err)
		}
	}
	return m.test.combine(ends)
}

// bounded returns a context that also ends after Options.Timeout.
func (m *linkMeasurement) bounded(ctx context.Context, what string) (context.Context, func()) {
	timeout := m.comm.opts.Timeout
	if timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w: %s within %v", ErrTimeout, what, timeout))
}

// agree waits for all ranks and compares what they want.
func (m *linkMeasurement) agree(ctx context.Context) error {
	ctx, cancel := m.bounded(ctx, "not all ranks called it")
	defer cancel()
	mine, err := json.Marshal(m.test)
	if err != nil {
		return err
	}
	all, err := m.comm.fabric.exchange(ctx, m.key, m.comm.members, mine)
	if err != nil {
		return err
	}
	for rank, theirs := range all {
		if !bytes.Equal(theirs, all[0]) {
			return fmt.Errorf("%w: rank 0 measures %s, rank %d %s", ErrMismatch, all[0], rank, theirs)
		}
	}
	return nil
}

// measure measures this rank's end.
func (m *linkMeasurement) measure(ctx context.Context) (r linkReport, err error) {
	c, t := m.comm, m.test
	cfg := probe.Config{
		Kind: probe.Kind(t.Mode), First: c.rank == t.From, Sizes: t.Sizes, Window: t.Window, Iters: t.Iters, Warmup: t.Warmup,
		Check: t.Check, Policy: c.fabric.policy(), Timeout: max(0, c.opts.Timeout), Silence: c.opts.HeartbeatTimeout,
	}
	memory, err := c.Alloc(2 * int64(cfg.Bytes()))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, memory.Free()) }() // after the link is closed
	out, in := memory.Bytes()[:cfg.Bytes()], memory.Bytes()[cfg.Bytes():]
	link, err := m.connect(ctx, cfg.LinkConfig(in))
	if err != nil {
		return r, fmt.Errorf("connect: %w", err)
	}
	defer func() {
		if err != nil {
			err = m.settle(ctx, err) // first, or the peer sees the link end and does not know why
		}
		err = errors.Join(err, link.Close())
	}()
	if s, ok := link.(transport.Selective); ok && !s.Sends(out) {
		return r, fmt.Errorf("%s can't send from memory of Alloc, %d bytes: it could not be registered", link.Transport(), len(memory.Bytes()))
	}
	r.Transport = link.Transport()
	r.Figures, err = probe.Run(ctx, &cfg, link, out, in)
	return r, err
}

func (m *linkMeasurement) connect(ctx context.Context, cfg transport.LinkConfig) (transport.Link, error) {
	ctx, cancel := m.bounded(ctx, "no link")
	defer cancel()
	return m.comm.fabric.transport().Connect(ctx, m.comm.members[m.peer], m.key, cfg)
}

// combine makes one result of what the two ends found.
func (t *LinkTest) combine(ends [2]linkReport) (LinkResult, error) {
	r := LinkResult{Transport: ends[0].Transport}
	for _, e := range ends {
		if len(e.Figures) != len(t.Sizes) {
			return LinkResult{}, fmt.Errorf("%d figures for %d sizes", len(e.Figures), len(t.Sizes))
		}
	}
	for i, size := range t.Sizes {
		from, to := &ends[0].Figures[i], &ends[1].Figures[i]
		f := LinkFigure{
			Bytes: size, Seconds: max(from.Seconds, to.Seconds) / float64(t.Iters),
			Checked: from.Checked + to.Checked, Wrong: from.Wrong + to.Wrong, Fault: from.Fault,
		}
		if f.Fault == "" {
			f.Fault = to.Fault
		}
		if t.Mode == LinkLatency {
			f.Seconds /= 2
			f.Latency = LinkTimes(from.Latency)
		} else {
			for _, end := range [...]*probe.Figure{from, to} {
				if end.Seconds > 0 {
					f.BytesPerSecond += float64(size) * float64(t.Iters) / end.Seconds
				}
			}
		}
		r.Figures = append(r.Figures, f)
	}
	return r, nil
}

// settle turns an error into the Comm's cause, tells the other ranks, and returns the cause.
func (m *linkMeasurement) settle(ctx context.Context, err error) error {
	c := m.comm
	what := fmt.Sprintf("link from rank %d to rank %d", m.test.From, m.test.To)
	if m.peer >= 0 {
		info, _ := c.fabric.info(c.members[m.peer])
		what = fmt.Sprintf("%v of the link to rank %d on %s", m.test.Mode, m.peer, info.Host)
	}
	r := report{Kind: verdictFault, Accused: -1, Call: "MeasureLink", Text: fmt.Sprintf("%s: %v", what, err)}
	var stall *probe.StallError
	switch {
	case c.cause.Load() != nil:
	case ctx.Err() != nil:
		c.abandon(fmt.Sprintf("the context ended during the measurement of the %s: %v", what, err), err)
	case errors.Is(err, ErrTimeout), errors.As(err, &stall):
		r.Kind = verdictTimeout
	case errors.Is(err, ErrMismatch):
		r.Kind = verdictMismatch
	case errors.Is(err, transport.ErrPeerLost) && m.peer >= 0:
		r.Kind, r.Accused = verdictLost, c.members[m.peer]
	}
	c.judged(r, err)
	return *c.cause.Load()
}
