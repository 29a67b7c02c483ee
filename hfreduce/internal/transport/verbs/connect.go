// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
	"unsafe"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// setup is what a rank tells the peer of the queue pairs that it has made, or why it could not.
type setup struct {
	Refuse string `json:",omitempty"`
	Lanes  []laneSetup
	Inbox  uint64 // address
	Areas  []area
}

// laneSetup is how to reach one queue pair, and the peer's memory through it.
type laneSetup struct {
	QP, PSN uint32
	Keys    laneKeys
}

// verdict is how a step of the meeting went on one side. Both sides go on only if both were well.
type verdict struct {
	Refuse string `json:",omitempty"`
}

// offer returns what this rank offers for a link.
func (t *Transport) offer(cfg *transport.LinkConfig) *offer {
	o := &offer{Version: offerVersion, QueuePairs: max(1, t.cfg.QueuePairs)}
	if err := t.ready(); err != nil {
		o.Refuse = err.Error()
		return o
	}
	if len(cfg.Landings) >= maxAreas {
		o.Refuse = fmt.Sprintf("%d landing areas are too many", len(cfg.Landings))
		return o
	}
	for i, mem := range cfg.Landings {
		if len(mem) > 0 && t.find(mem) == nil {
			t.mu.Lock()
			o.Refuse = fmt.Sprintf("landing area %d is not registered", i)
			if t.unfit != nil {
				o.Refuse = t.unfit.Error()
			}
			t.mu.Unlock()
			return o
		}
	}
	for _, p := range t.ports {
		e, err := p.now(&t.cfg)
		if err != nil {
			o.Refuse = err.Error()
			return o
		}
		o.Endpoints = append(o.Endpoints, e)
	}
	return o
}

// negotiate makes the link over RDMA, or says why that is refused, on both sides alike. An error is the end of the
// connection or of ctx.
func (t *Transport) negotiate(ctx context.Context, conn net.Conn, peer int, cfg *transport.LinkConfig) (l *Link, refusal string, err error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			err = context.Cause(ctx)
		}
		if l != nil && (err != nil || refusal != "") {
			err = errors.Join(err, l.abandon())
			l = nil
		}
	}()
	offers := [2]*offer{t.offer(cfg), {}}
	if err := swap(conn, offers[0], offers[1]); err != nil {
		return nil, "", err
	}
	self, ranks := 0, [2]int{t.cfg.Rank, peer}
	if t.cfg.Rank > peer {
		self, ranks, offers = 1, [2]int{peer, t.cfg.Rank}, [2]*offer{offers[1], offers[0]}
	}
	paths, refusal := plan(ranks, offers)
	if refusal != "" {
		return nil, refusal, nil
	}
	l, mine := t.prepare(paths, self, peer, conn, cfg)
	theirs := &setup{}
	if err := swap(conn, mine, theirs); err != nil {
		return l, "", err
	}
	if refusal := either(mine.Refuse, theirs.Refuse); refusal != "" {
		return l, refusal, nil
	}
	for _, step := range []func() error{
		func() error { return l.connect(theirs) },
		func() error { return l.prove(ctx) },
	} {
		mine, theirs := verdict{}, verdict{}
		if err := step(); err != nil {
			mine.Refuse = err.Error()
		}
		if err := swap(conn, &mine, &theirs); err != nil {
			return l, "", err
		}
		if refusal := either(mine.Refuse, theirs.Refuse); refusal != "" {
			return l, refusal, nil
		}
	}
	l.meeting = false
	t.enlist(l)
	t.log.Info("link", "peer", peer, "transport", Name, "paths", fmt.Sprint(paths), "mtu", paths[0].mtu, "address", conn.RemoteAddr().String())
	return l, "", nil
}

// either names the side that refuses.
func either(mine, theirs string) string {
	switch {
	case mine != "":
		return "this rank: " + mine
	case theirs != "":
		return "the peer: " + theirs
	}
	return ""
}

// prepare makes the queue pairs, so that they can receive, and what the peer must know of them.
func (t *Transport) prepare(paths []path, self, peer int, conn net.Conn, cfg *transport.LinkConfig) (*Link, *setup) {
	l := &Link{
		of: t, peer: peer, self: self, meeting: true, addr: paths[0].String(), bell: cfg.Bell, landings: cfg.Landings,
		credits: transport.NewCredits(cfg), posts: make([]post, cfg.Posts()),
	}
	fail := func(err error) (*Link, *setup) { return l, &setup{Refuse: err.Error()} }
	var err error
	if l.side, err = newSide(conn); err != nil {
		return fail(err)
	}
	areas := len(cfg.Landings)
	if l.inbox, err = newMemory(max(areas+1, packetEntries)); err != nil {
		return fail(err)
	}
	s := &setup{Inbox: l.inbox.addr(0)}
	regions := *t.regions.Load()
	for _, mem := range cfg.Landings {
		s.Areas = append(s.Areas, area{Addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))), Bytes: uint64(len(mem)), Region: indexOf(regions, mem)})
	}
	sends := 2*cfg.Posts() + spare + minDepth
	receives := areas + 2*int(min(cfg.Window, 1<<12)) + 16 // a grant for each item, and what the meeting and the end need
	for _, p := range paths {
		n, err := t.makeLane(p, self, sends, receives, &l.inbox)
		if err != nil {
			return fail(err)
		}
		keys := laneKeys{Inbox: n.inKey.RKey()}
		for _, r := range regions {
			keys.Regions = append(keys.Regions, r.keys[n.index].RKey())
		}
		l.lanes = append(l.lanes, n)
		s.Lanes = append(s.Lanes, laneSetup{QP: n.qp.Number(), PSN: n.psn, Keys: keys})
	}
	return l, s
}

// minDepth is what a send queue has room for beside two work requests for each post: the writes of the longest message on
// a device whose work requests have 8 MiB at most.
const minDepth = 256

// indexOf returns the region that covers an area, -1 for an empty one.
func indexOf(regions []*region, mem []byte) int {
	if len(mem) == 0 {
		return -1
	}
	return slices.IndexFunc(regions, func(r *region) bool { return r.covers(mem) })
}

// connect makes the queue pairs reach the peer's.
func (l *Link) connect(peer *setup) error {
	if len(peer.Lanes) != len(l.lanes) {
		return fmt.Errorf("the peer made %d queue pairs, this rank %d", len(peer.Lanes), len(l.lanes))
	}
	for i := range l.lanes {
		for _, a := range peer.Areas {
			if a.Bytes > 0 && (a.Region < 0 || a.Region >= len(peer.Lanes[i].Keys.Regions)) {
				return errors.New("the peer named memory without a key")
			}
		}
		if err := l.lanes[i].connect(&l.of.cfg, l.self, &peer.Lanes[i]); err != nil {
			return fmt.Errorf("%v: %w", l.lanes[i].path, err)
		}
	}
	l.inboxAddr, l.areas = peer.Inbox, peer.Areas
	return l.checkRoom()
}

// checkRoom finds out whether a send queue is too short for the longest message, which would wait for room for ever.
func (l *Link) checkRoom() error {
	longest := uint64(0)
	for _, a := range l.areas {
		longest = max(longest, a.Bytes)
	}
	for i := range l.lanes {
		n := &l.lanes[i]
		if need := uint64(1 + n.parts(int(longest)) + spare); need > n.depth {
			return fmt.Errorf("%v: a message of %d bytes needs a send queue of %d work requests, the device has %d", n.path, longest, need, n.depth)
		}
	}
	return nil
}

// prove sends a message over each queue pair and waits for the peer's. It fills a packet: a switch whose MTU is too small
// lets short ones through. What does not get through in the time that a queue pair takes to give up is named.
func (l *Link) prove(ctx context.Context) error {
	for i := range l.lanes {
		l.lanes[i].addProof(l.inboxAddr)
	}
	missing := func() *lane {
		for i := range l.lanes {
			if n := &l.lanes[i]; !n.proven || n.reaped < n.posted {
				return n
			}
		}
		return nil
	}
	deadline := time.Now().Add(l.of.cfg.LostAfter() + time.Second)
	if l.waitFor(deadline, func() bool { return missing() == nil || ctx.Err() != nil }) && ctx.Err() == nil {
		return nil
	}
	n := missing()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case l.cause != nil && n != nil:
		return fmt.Errorf("the first message over %v, a packet of %d bytes, did not get through: %w", n.path, n.path.mtu, l.cause)
	case l.cause != nil:
		return l.cause
	}
	return fmt.Errorf("the first message over %v did not come within %v", n.path, l.of.cfg.LostAfter()+time.Second)
}

// abandon gives back what a meeting that failed has made; the connection is the caller's.
func (l *Link) abandon() error {
	l.of.delist(l) // the context may have ended after enlist
	var errs []error
	for i := range l.lanes {
		errs = append(errs, l.lanes[i].destroy())
	}
	return errors.Join(append(errs, l.inbox.unmap())...)
}

// maxMessage bounds the messages of the meeting.
const maxMessage = 64 << 20

// swap sends mine and receives theirs, both at once, since either may be longer than the connection's buffers.
func swap(conn net.Conn, mine, theirs any) error {
	sent := make(chan error, 1)
	go func() { sent <- sendJSON(conn, mine) }()
	err := receiveJSON(conn, theirs)
	if err != nil {
		conn.SetWriteDeadline(time.Unix(1, 0)) // the peer may not read any more
	}
	if serr := <-sent; err == nil {
		err = serr
	}
	return err
}

func sendJSON(conn net.Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = conn.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func receiveJSON(conn net.Conn, v any) error {
	var length [4]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return gone(err)
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n > maxMessage {
		return fmt.Errorf("%w: the peer sends %d bytes where the link is set up (does it use HFREDUCE_TRANSPORT=tcp?)", transport.ErrProtocol, n)
	}
	var b bytes.Buffer // grows with what comes, not on the peer's word
	if _, err := io.CopyN(&b, conn, int64(n)); err != nil {
		return gone(err)
	}
	if err := json.Unmarshal(b.Bytes(), v); err != nil {
		return fmt.Errorf("%w: %w", transport.ErrProtocol, err)
	}
	return nil
}

// gone says what the end of the connection means here.
func gone(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the peer gave up while the link was set up: %w", io.ErrUnexpectedEOF)
	}
	return err
}
