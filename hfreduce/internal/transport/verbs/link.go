// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
	"github.com/hfreduce/hfreduce/rdma"
)

// Link is one end of the queue pairs to a peer and the TCP connection beside them. Its states:
//
//	up ── fault, peer's bye ──▶ ending    cause is set; events that were complete are still returned
//	ending ── no event left ──▶ broken    err = *PeerError; everything is given back
//	any ── Close ──▶ closed               err = ErrClosed; the same
type Link struct {
	of       *Transport
	peer     int
	self     int // place of this rank's end in paths
	addr     string
	bell     wait.Bell
	landings [][]byte
	credits  transport.Credits
	side     side
	lanes    []lane
	inbox    memory
	areas    []area // the peer's
	watched  bool
	meeting  bool // the link is being set up: the peer may be a step ahead
	idle     uint // polls that found nothing, since the side was looked at

	posts         []post // a ring
	head          int    // the oldest
	queued, count int    // of the ring: made into work requests; in use
	sending       int    // lane of the next message
	receiving     int    // lane of the next message of the peer's
	inboxAddr     uint64 // of the peer
	alarm         atomic.Pointer[error]
	cause, err    error
}

var (
	_ transport.Link      = (*Link)(nil)
	_ transport.Selective = (*Link)(nil)
)

// post is a message that was posted and whose Sent event was not returned.
type post struct {
	transport.Message
	region *region // of the payload, nil if that goes in the entry
	lane   int
	end    uint64 // number of its last work request
}

// area is a landing area of the peer's.
type area struct {
	Addr, Bytes uint64
	Region      int // index in laneKeys.Regions
}

// Peer implements transport.Link.
func (l *Link) Peer() int { return l.peer }

// Transport returns "verbs".
func (l *Link) Transport() string { return Name }

// Limit implements transport.Link.
func (l *Link) Limit() uint32 { return l.credits.Limit() }

// Grant implements transport.Link.
func (l *Link) Grant(limit uint32) { l.credits.Grant(limit) }

// Sends implements transport.Selective: small payloads are copied, others must be registered.
func (l *Link) Sends(payload []byte) bool {
	return len(payload) <= smallBytes || l.of.find(payload) != nil
}

// Post implements transport.Link. A small payload is Sent when the device has its copy, another one when the peer's device
// has it.
func (l *Link) Post(m transport.Message) error {
	var r *region
	switch {
	case l.err != nil:
		return l.err
	case !l.credits.MayPost(m.Seq):
		return transport.ErrNoCredit
	case l.count == len(l.posts):
		return transport.ErrPosts
	case uint64(len(m.Payload)) > math.MaxInt32:
		return fmt.Errorf("verbs: post to rank %d: %d bytes, a message has less than 2 GiB", l.peer, len(m.Payload))
	case len(m.Payload) > smallBytes && !l.fits(&m):
	case len(m.Payload) > smallBytes:
		if r = l.of.find(m.Payload); r == nil {
			return fmt.Errorf("verbs: post to rank %d: the %d bytes at %p are not registered", l.peer, len(m.Payload), m.Payload)
		}
	}
	l.posts[(l.head+l.count)%len(l.posts)] = post{Message: m, region: r}
	l.count++
	return nil
}

// fits reports whether the peer has an area for the message.
func (l *Link) fits(m *transport.Message) bool {
	return uint64(m.Landing) < uint64(len(l.areas)) && uint64(len(m.Payload)) <= l.areas[m.Landing].Bytes
}

// Flush implements transport.Link.
func (l *Link) Flush() error {
	if l.err != nil {
		return l.err
	}
	l.credits.Force()
	l.step()
	return nil
}

// sideEvery is how many polls that find nothing there are for one look at the TCP connection.
const sideEvery = 64

// Poll implements transport.Link.
func (l *Link) Poll(ev []transport.Event) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	n := l.events(ev)
	if n == len(ev) {
		return n, nil
	}
	l.step()
	if n += l.events(ev[n:]); n > 0 {
		return n, nil
	}
	if l.idle++; l.cause == nil && (l.bell.Armed() || l.idle >= sideEvery) {
		l.idle = 0
		l.lookAside()
		if l.bell.Armed() && l.cause == nil {
			l.prepareSleep()
		}
		n = l.events(ev)
	}
	if n == 0 && l.cause != nil {
		l.fail()
		return 0, l.err
	}
	return n, nil
}

// events returns what is complete and was not returned. With several lanes the peer's messages are in its order.
func (l *Link) events(ev []transport.Event) (n int) {
	for n < len(ev) && l.queued > 0 {
		p := &l.posts[l.head]
		reached := l.lanes[p.lane].gone
		if p.region != nil {
			reached = l.lanes[p.lane].reaped
		}
		if reached < p.end {
			break
		}
		ev[n] = transport.Event{Kind: transport.Sent, Landing: p.Landing, Seq: p.Seq, Tag: p.Tag, Sum: p.Sum, Bytes: len(p.Payload)}
		*p = post{}
		l.head = (l.head + 1) % len(l.posts)
		l.count--
		l.queued--
		n++
	}
	for n < len(ev) && l.lanes[l.receiving].arrived.count > 0 {
		m := l.lanes[l.receiving].arrived.pop()
		l.receiving = (l.receiving + 1) % len(l.lanes)
		ev[n] = transport.Event{Kind: transport.Received, Landing: uint32(m.area), Seq: m.seq, Tag: m.tag, Sum: m.sum, Bytes: m.bytes}
		n++
	}
	return n
}

// step moves every lane once and returns how many completions there were.
func (l *Link) step() (completions int) {
	if l.cause != nil {
		return 0
	}
	l.fill()
	for i := range l.lanes {
		n := &l.lanes[i]
		_, done, err := n.step()
		if err != nil {
			l.cause = err
			return completions
		}
		for k := range n.done[:done] {
			l.complete(n, &n.done[k])
		}
		completions += done
	}
	if cause := l.alarm.Load(); cause != nil && l.cause == nil {
		l.cause = *cause
	}
	return completions
}

// fill makes work requests of posts, in order, as far as the send queues have room, and of a grant that no message carries.
func (l *Link) fill() {
	for l.queued < l.count {
		p := &l.posts[(l.head+l.queued)%len(l.posts)]
		n := &l.lanes[l.sending]
		wrs := 1
		if p.region != nil {
			wrs += n.parts(len(p.Payload))
		}
		if !n.room(wrs, spare) {
			return
		}
		l.send(n, p)
		p.lane, p.end = l.sending, n.posted
		l.sending = (l.sending + 1) % len(l.lanes)
		l.queued++
	}
	if n := &l.lanes[0]; l.credits.Due() && n.room(1, 2) {
		n.addEntry(n.entry(l.headerOf(&post{})), headerBytes, l.entryOf(len(l.areas)), grant, true, false)
	}
}

// headerOf returns a message's header, which tells the peer the latest grant.
func (l *Link) headerOf(p *post) header {
	limit := l.credits.Granted()
	l.credits.Told(limit)
	return header{seq: p.Seq, tag: p.Tag, limit: limit, bytes: uint32(len(p.Payload)), sum: p.Sum}
}

// entryOf returns the address of an entry of the peer's inbox.
func (l *Link) entryOf(i int) uint64 { return l.inboxAddr + uint64(i)*entryBytes }

// send appends a message's work requests to a lane.
func (l *Link) send(n *lane, p *post) {
	i := n.entry(l.headerOf(p))
	if !l.fits(&p.Message) {
		n.addEntry(i, headerBytes, l.entryOf(len(l.areas)), wrong, true, false)
		return
	}
	to := l.entryOf(int(p.Landing))
	if p.region == nil {
		bytes := headerBytes + copy(n.out.body(i, len(p.Payload)), p.Payload)
		n.addEntry(i, bytes, to, small|immediate(p.Landing), true, false)
		return
	}
	n.addEntry(i, headerBytes, to, 0, false, false)
	a := &l.areas[p.Landing]
	n.addPayload(p.Payload, p.region.keys[n.index].LKey(), a.Addr, n.peerKeys.Regions[a.Region], large|immediate(p.Landing))
}

// complete takes one completion in.
func (l *Link) complete(n *lane, c *rdma.Completion) {
	switch {
	case c.Status != rdma.StatusSuccess:
		if l.cause == nil {
			l.cause = n.failure(c)
		}
	case c.ID != rdma.ReceiveID:
		n.reaped = c.ID
	case l.cause == nil:
		n.owed++
		l.cause = l.take(n, immediate(c.Imm), int(c.Bytes))
	}
}

// take takes a message of the peer's in. Its memory has been written by the peer, who could have written anything.
func (l *Link) take(n *lane, imm immediate, bytes int) error {
	i := len(l.landings)
	switch imm.kind() {
	case proof:
		n.proven = true
		return nil
	case bye:
		n.left = true
		return l.parted()
	case wrong:
		h := *l.inbox.header(i)
		return fmt.Errorf("%w: a message of %d bytes for a landing area that does not exist or is shorter", transport.ErrProtocol, h.bytes)
	case small, large:
		if i = imm.area(); i >= len(l.landings) {
			return fmt.Errorf("%w: a message for landing area %d of %d", transport.ErrProtocol, i, len(l.landings))
		}
	case grant:
	default:
		return fmt.Errorf("%w: immediate data %#x", transport.ErrProtocol, uint32(imm))
	}
	h := *l.inbox.header(i)
	// An older limit is no fault: the entry of grants may hold a later one than its message brought, and lanes overtake.
	l.credits.Heard(h.limit)
	if imm.kind() == grant {
		return nil
	}
	area, size := l.landings[i], int(h.bytes)
	switch {
	case !l.credits.MayReceive(h.seq):
		return fmt.Errorf("%w: item %d was not granted, %d is the first", transport.ErrProtocol, h.seq, l.credits.Granted())
	case size > len(area), imm.kind() == small && bytes != headerBytes+size:
		return fmt.Errorf("%w: a message of %d bytes for landing area %d, which has %d", transport.ErrProtocol, size, i, len(area))
	case n.arrived.count == len(n.arrived.ring):
		return fmt.Errorf("%w: more messages than landing areas", transport.ErrProtocol)
	}
	if imm.kind() == small {
		copy(area, l.inbox.body(i, size))
	}
	n.arrived.push(arrival{area: i, seq: h.seq, tag: h.tag, sum: h.sum, bytes: size})
	return nil
}

// parted returns the cause of the end once the peer's last message has come over every lane.
func (l *Link) parted() error {
	for i := range l.lanes {
		if !l.lanes[i].left {
			return nil
		}
	}
	return transport.ErrPeerClosed
}

// lookAside looks at the TCP connection. After its end everything that had arrived before is taken in.
func (l *Link) lookAside() {
	sent, err := l.side.look()
	if sent && !l.meeting {
		err = fmt.Errorf("%w: it sent something over the connection beside the queue pairs", transport.ErrProtocol)
	}
	if err == nil {
		return
	}
	for l.step() > 0 && l.cause == nil {
	}
	if l.cause == nil {
		l.cause = err
	}
}

// prepareSleep makes the bell wake the owner when something completes.
func (l *Link) prepareSleep() {
	if !l.watched {
		l.watched = true
		if l.cause = l.watch(true); l.cause != nil {
			return
		}
	}
	for i := range l.lanes {
		if l.cause = l.lanes[i].sleep(); l.cause != nil {
			return
		}
	}
	l.step() // what completed before
}

// watch makes the bell watch the link's descriptors, or forget them.
func (l *Link) watch(on bool) error {
	errs := []error{l.bell.Watch(l.side.fd, on, false)}
	for i := range l.lanes {
		errs = append(errs, l.bell.Watch(l.lanes[i].channel.FD(), on, false))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the link can't wake its owner: %w", err)
	}
	return nil
}

// fail breaks the link.
func (l *Link) fail() {
	l.err = &transport.PeerError{Peer: l.peer, Transport: Name, Addr: l.addr, Err: l.cause}
	_ = l.destroy() // what can't be given back is lost; the cause is what the owner must know
}

// destroy gives everything back.
func (l *Link) destroy() error {
	if l.watched {
		_ = l.watch(false) // a bell that fails to forget a descriptor does so when that is closed
	}
	l.of.delist(l)
	var errs []error
	for i := range l.lanes {
		errs = append(errs, l.lanes[i].destroy())
	}
	errs = append(errs, l.inbox.unmap(), l.side.close())
	l.landings, l.posts, l.queued, l.count = nil, nil, 0, 0
	return errors.Join(errs...)
}

// Close implements transport.Link. The goodbye follows only if everything that was posted is Sent.
func (l *Link) Close() error {
	if errors.Is(l.err, transport.ErrClosed) {
		return nil
	}
	up := l.err == nil
	l.err = transport.ErrClosed
	if !up {
		return nil
	}
	if l.cause == nil && l.count == 0 {
		l.farewell()
	}
	return l.destroy()
}
