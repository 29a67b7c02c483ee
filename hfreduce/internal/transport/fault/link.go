// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// link is one end of a link with faults. What the rules let through at once goes straight to the inner link. What they hold
// waits in a queue, and everything behind it: the queue is looked at in Post and Poll, and an alarm ends the owner's sleep
// when its head is due.
type link struct {
	transport.Link
	of       *Transport
	pair     *pair
	number   uint64 // among the links of the two ranks
	self     int
	out, in  []int // rules, by their numbers
	bell     wait.Bell
	landings [][]byte

	posted, received uint64
	outstanding      int // posts whose Sent was not returned
	posts            int // most of them
	held             queue[held]
	lost             queue[transport.Event] // Sent events of what the inner link never got
	silent           bool                   // half-closed
	border           bool                   // there are partitions among the rules
	grant            uint32                 // what the peer will be told once it may be
	granted, flushed bool                   // there is such a grant; it is to be told at once
	redirector       transport.Redirector
	elsewhere        []redirect // by landing area
	broken           error      // why the link will be, once what was complete has been returned
	err              error      // sticky
	alarm            alarm
}

// held is a message that waits for its turn, or a fault that does.
type held struct {
	message transport.Message
	due     time.Time // never, if forever
	forever bool
	action  Action // "": it goes to the inner link
	rule    int
}

// redirect is where the message of an item lands instead of its landing area. A nil area is for none.
type redirect struct {
	seq  uint32
	area []byte
}

func newLink(t *Transport, inner transport.Link, cfg *transport.LinkConfig, out, in []int) *link {
	p, number := t.peerOf(inner.Peer())
	l := &link{
		Link: inner, of: t, pair: p, number: number, self: t.cfg.Rank, out: out, in: in, bell: cfg.Bell, landings: cfg.Landings,
		posts: cfg.Posts(), elsewhere: make([]redirect, len(cfg.Landings)), grant: cfg.Start,
		held: newQueue[held](cfg.Posts()), lost: newQueue[transport.Event](cfg.Posts()),
	}
	for _, i := range out {
		l.border = l.border || l.rule(i).action == Partition
	}
	l.alarm.bell = cfg.Bell
	return l
}

func (l *link) rule(i int) *rule { return &l.of.cfg.Plan.rules[i] }

// Post implements transport.Link.
func (l *link) Post(m transport.Message) error {
	switch {
	case l.err != nil:
		return l.err
	case l.broken != nil:
		return l.broken
	case !transport.Before(m.Seq, l.Limit()):
		return transport.ErrNoCredit
	case l.outstanding == l.posts:
		return transport.ErrPosts
	}
	h := l.judge(m)
	if l.held.n == 0 && !h.forever && h.due.IsZero() {
		err := l.release(&h)
		if err == nil {
			l.outstanding++
		}
		return err
	}
	if last := l.held.last(); last != nil {
		h.forever = h.forever || last.forever
		if h.due.Before(last.due) {
			h.due = last.due
		}
	}
	l.outstanding++
	l.held.push(h)
	l.alarm.set(l.held.first())
	return nil
}

// release does what is to be done with a message whose time has come.
func (l *link) release(h *held) error {
	switch h.action {
	case Drop:
		m := &h.message
		l.lost.push(transport.Event{Kind: transport.Sent, Landing: m.Landing, Seq: m.Seq, Tag: m.Tag, Sum: m.Sum, Bytes: len(m.Payload)})
		return nil
	case Reset, Partial:
		l.tear(h)
		return l.broken
	}
	return l.Link.Post(h.message)
}

// tear breaks the link, in the middle of the message if it is Partial.
func (l *link) tear(h *held) {
	r := l.rule(h.rule)
	l.broken = &transport.PeerError{Peer: l.Peer(), Transport: l.Transport(), Err: fmt.Errorf("an injected fault, %q", r.String())}
	breaker, ok := l.Link.(transport.Breaker)
	switch {
	case ok && h.action == Partial:
		breaker.BreakAmid(h.message, r.amount)
	case ok:
		breaker.Break()
	default:
		_ = l.Link.Close() // to the peer a close is a loss, too
	}
	l.held.clear()
}

// catchUp does what has become due.
func (l *link) catchUp() {
	if l.held.n == 0 && !l.granted && !l.flushed {
		return
	}
	now := time.Now()
	for h := l.held.first(); h != nil && l.broken == nil && !h.forever && !now.Before(h.due); h = l.held.first() {
		next := *h
		l.held.pop()
		if err := l.release(&next); err != nil && l.broken == nil {
			l.broken = err
		}
	}
	l.alarm.set(l.held.first())
	if l.granted || l.flushed {
		l.tellGrant()
	}
}

// Poll implements transport.Link.
func (l *link) Poll(ev []transport.Event) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	l.catchUp()
	n := 0
	for ; n < len(ev) && l.lost.n > 0; n++ {
		ev[n] = *l.lost.first()
		l.lost.pop()
	}
	l.outstanding -= n
	if n == len(ev) {
		return n, nil
	}
	m, err := l.Link.Poll(ev[n:])
	for i := range ev[n : n+m] {
		l.arrived(&ev[n+i])
	}
	if n += m; n > 0 {
		return n, nil
	}
	if l.broken != nil {
		err = l.broken
	}
	if err != nil {
		l.err = err
		l.forget()
	}
	return 0, err
}

// Grant implements transport.Link.
func (l *link) Grant(limit uint32) {
	if !l.border && !l.silent {
		l.Link.Grant(limit)
		return
	}
	if transport.Before(l.grant, limit) {
		l.grant, l.granted = limit, true
	}
	l.tellGrant()
}

// tellGrant gives the inner link the latest grant, and has it told if that was asked for, unless nothing may pass.
func (l *link) tellGrant() {
	until, blocked := l.blocked()
	if l.silent || blocked {
		if !l.silent && !until.IsZero() {
			l.alarm.at(until)
		}
		return
	}
	if l.granted {
		l.Link.Grant(l.grant)
	}
	if l.flushed {
		_ = l.Link.Flush() // the next Poll returns the broken link's error
	}
	l.granted, l.flushed = false, false
}

// Flush implements transport.Link.
func (l *link) Flush() error {
	if l.err != nil {
		return l.err
	}
	if l.broken != nil {
		return l.broken
	}
	if !l.border && !l.silent {
		return l.Link.Flush()
	}
	l.flushed = true
	l.tellGrant()
	return nil
}

// Close implements transport.Link. What a delay holds goes at once, and the inner link decides what becomes of it; what a
// partition holds, and a half-closed link's goodbye, gets nowhere.
func (l *link) Close() error {
	if errors.Is(l.err, transport.ErrClosed) {
		return nil
	}
	up := l.err == nil && l.broken == nil
	l.err = transport.ErrClosed
	l.alarm.close()
	_, blocked := l.blocked()
	breaker, ok := l.Link.(transport.Breaker)
	switch {
	case !up:
	case ok && (l.silent || blocked):
		breaker.Break()
	default:
		for h := l.held.first(); h != nil && !h.forever; h = l.held.first() {
			next := *h
			l.held.pop()
			if err := l.release(&next); err != nil {
				break
			}
		}
	}
	l.forget()
	return l.Link.Close()
}

// forget lets go of the caller's memory.
func (l *link) forget() {
	l.alarm.close()
	l.held.clear()
	clear(l.elsewhere)
	l.landings = nil
}

// redirecting is a link whose inner one is a transport.Redirector.
type redirecting struct{ *link }

// Redirect implements transport.Redirector. Where the message lands is kept, for there it is spoilt.
func (l *redirecting) Redirect(landing, seq uint32, area []byte) bool {
	if l.err != nil || !l.redirector.Redirect(landing, seq, area) {
		return false
	}
	l.elsewhere[landing] = redirect{seq, area}
	return true
}

// Alive implements transport.Prober. An inner link that is none is alive.
func (l *link) Alive(bound time.Duration) error {
	if l.err != nil {
		return l.err
	}
	if p, ok := l.Link.(transport.Prober); ok {
		return p.Alive(bound)
	}
	return nil
}
