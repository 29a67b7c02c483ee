// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// end is one end of the link under test. Messages are numbered by one sequence for each direction; number q goes from slot
// q mod Window to slot q mod Window, and is granted once number q-Window has been taken in.
type end struct {
	cfg     *Config
	ctx     context.Context
	stop    atomic.Bool // ctx has ended
	link    transport.Link
	out, in [][]byte
	window  uint64

	posted, sent, received uint64

	// What the phase expects.
	tag       uint32
	bytes     int
	toReceive uint64                              // received at its end
	taken     func(number uint64, message []byte) // may look at a message before its slot is granted again; nil: nobody does

	events  [16]transport.Event // of a poll
	at, n   int                 // those that were not looked at
	early   []transport.Event   // messages of the next phase, which the other end may have begun; at most Window
	backoff wait.Backoff
	looks   uint             // that found nothing
	idle    time.Time        // when the backoff first ran out since the latest event
	looked  time.Time        // when the link was last asked whether the other host answers, since then
	prober  transport.Prober // nil if it is not to be asked
}

func newEnd(ctx context.Context, cfg *Config, link transport.Link, out, in []byte) *end {
	e := &end{cfg: cfg, ctx: ctx, link: link, out: cfg.areas(out), in: cfg.areas(in), window: uint64(cfg.Window), backoff: wait.NewBackoff(cfg.Policy)}
	e.early = make([]transport.Event, 0, cfg.Window)
	if cfg.Silence > 0 {
		e.prober, _ = link.(transport.Prober)
	}
	for i := range e.out { // no page is missing later
		fill(e.out[i], uint64(i))
		clear(e.in[i])
	}
	link.Grant(uint32(cfg.Window))
	return e
}

// begin starts a phase in which so many messages come, of so many bytes.
func (e *end) begin(in, size int) {
	e.tag++
	e.bytes = size
	e.toReceive = e.received + uint64(in)
}

// mayPost reports whether the next message may be posted.
func (e *end) mayPost() bool {
	return transport.Before(uint32(e.posted), e.link.Limit()) && e.posted-e.sent < uint64(e.cfg.posts())
}

// post posts the next message.
func (e *end) post(size int) error {
	slot := e.posted % e.window
	m := transport.Message{Landing: uint32(slot), Seq: uint32(e.posted), Tag: e.tag, Payload: e.out[slot][:size]}
	if err := e.link.Post(m); err != nil {
		return err
	}
	e.posted++
	return nil
}

// delivered reports whether the other end has taken in everything that was posted.
func (e *end) delivered() bool {
	return !transport.Before(e.link.Limit(), uint32(e.posted+e.window))
}

// stream is a phase of so many messages out and in. It ends when all are gone and have come; with confirm, when the other
// end has said so of those that went.
func (e *end) stream(out, in, size int, confirm bool) error {
	e.begin(in, size)
	toPost := e.posted + uint64(out)
	for flushed := false; ; {
		for e.posted < toPost && e.mayPost() {
			if err := e.post(size); err != nil {
				return err
			}
			e.backoff.Reset()
		}
		if confirm && !flushed && e.received == e.toReceive {
			flushed = true
			if err := e.link.Flush(); err != nil {
				return err
			}
		}
		if e.received == e.toReceive && e.sent == toPost && (!confirm || e.delivered()) {
			return nil
		}
		if err := e.look(); err != nil {
			return err
		}
	}
}

// send posts one message as soon as it may be.
func (e *end) send(size int) error {
	for !e.mayPost() {
		if err := e.look(); err != nil {
			return err
		}
	}
	return e.post(size)
}

// receive takes one message in.
func (e *end) receive() error {
	for before := e.received; e.received == before; {
		if err := e.look(); err != nil {
			return err
		}
	}
	return nil
}

// meet ends when both ends are here.
func (e *end) meet() error { return e.stream(1, 1, 0, true) }

// part is the last phase. It needs no confirmation, which the other end, who may have closed the link by then, cannot give.
func (e *end) part() error { return e.stream(1, 1, 0, false) }

// look takes in one event, after a poll if there is none left.
func (e *end) look() error {
	if len(e.early) > 0 && e.received < e.toReceive {
		ev := e.early[0]
		e.early = append(e.early[:0], e.early[1:]...) // few, and only between phases
		return e.take(&ev)
	}
	if e.at == e.n {
		if e.stop.Load() {
			return context.Cause(e.ctx)
		}
		n, err := e.link.Poll(e.events[:])
		if e.at, e.n = 0, n; err != nil {
			return err
		}
		if n == 0 {
			return e.rest()
		}
		e.backoff.Reset()
		e.idle = time.Time{}
	}
	ev := &e.events[e.at]
	e.at++
	switch {
	case ev.Kind == transport.Sent:
		e.sent++
	case e.received < e.toReceive:
		return e.take(ev)
	default:
		e.early = append(e.early, *ev)
	}
	return nil
}

// take takes in a message.
func (e *end) take(ev *transport.Event) error {
	slot := e.received % e.window
	if ev.Seq != uint32(e.received) || ev.Landing != uint32(slot) || ev.Tag != e.tag || ev.Bytes != e.bytes {
		return fmt.Errorf("%w: rank %d sent message %d of phase %d with %d bytes to slot %d, message %d of phase %d with %d bytes should come to slot %d",
			transport.ErrProtocol, e.link.Peer(), ev.Seq, ev.Tag, ev.Bytes, ev.Landing, uint32(e.received), e.tag, e.bytes, slot)
	}
	if e.taken != nil {
		e.taken(e.received, e.in[slot][:ev.Bytes])
	}
	e.received++
	e.link.Grant(uint32(e.received + e.window))
	return nil
}

// busyLooks is how many looks in a row there are before a rank with a core of its own rests for a step: as perftest does,
// which polls without a pause, but for what other goroutines need.
const busyLooks = 32

// rest is what happens between two looks that find nothing.
func (e *end) rest() error {
	if e.looks++; e.looks%busyLooks != 0 && e.cfg.Policy.Spins > 1 {
		return nil
	}
	if !e.backoff.Idle() {
		return nil
	}
	e.backoff.Reset() // never sleep
	now := time.Now()
	switch {
	case e.idle.IsZero():
		e.idle, e.looked = now, now
	case e.cfg.Timeout > 0 && now.Sub(e.idle) > e.cfg.Timeout:
		return &StallError{Peer: e.link.Peer(), After: e.cfg.Timeout}
	case e.prober != nil && now.Sub(e.looked) >= min(e.cfg.Silence/4, time.Second/2):
		e.looked = now
		return e.prober.Alive(e.cfg.Silence)
	}
	return nil
}
