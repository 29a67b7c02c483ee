// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"unsafe"

	"github.com/hfreduce/hfreduce/rdma"
)

const (
	// batch is how many completions one step takes.
	batch = 32
	// spare is the part of the send queue that messages leave to grants and the last message.
	spare = 8
)

// lane is one queue pair of a link.
type lane struct {
	port    *port
	index   int // of the port, as in region.keys
	path    path
	qp      *rdma.QP
	cq      *rdma.CQ
	channel *rdma.Channel
	psn     uint32

	out      memory // an entry for each place in the send queue: what is not sent inline is sent from here
	outKey   *rdma.MR
	inKey    *rdma.MR // of the link's inbox
	peerKeys laneKeys

	depth      uint64 // places in the send queue
	posted     uint64 // work requests so far, those that wait in wrs included
	gone       uint64 // of these, taken by the queue pair
	reaped     uint64 // of these, known to be complete
	unsignaled uint64 // since the last one that was signaled
	wrs        []rdma.SendWR
	owed       int // receives to post
	done       [batch]rdma.Completion

	arrived arrivals
	proven  bool // the peer's proof has come
	left    bool // the peer's bye has come
}

// laneKeys are the keys by which a peer's memory is written: of its inbox, and of its areas' regions.
type laneKeys struct {
	Inbox   uint32
	Regions []uint32
}

// arrivals is a queue of messages that have landed and were not yet returned as events.
type arrivals struct {
	ring        []arrival
	head, count int
}

type arrival struct {
	area     int
	seq, tag uint32
	sum      uint32
	bytes    int
}

func (a *arrivals) push(m arrival) {
	a.ring[(a.head+a.count)%len(a.ring)] = m
	a.count++
}

func (a *arrivals) pop() arrival {
	m := a.ring[a.head]
	a.head = (a.head + 1) % len(a.ring)
	a.count--
	return m
}

func (n *lane) id() laneID { return laneID{n.port.Device, n.qp.Number()} }

// makeLane makes a queue pair that can receive messages into the inbox.
func (t *Transport) makeLane(p path, self int, sends, receives int, inbox *memory) (n lane, err error) {
	n = lane{path: p, psn: rand.Uint32() & 0xffffff, arrived: arrivals{ring: make([]arrival, receives)}}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.destroy())
		}
	}()
	for i, port := range t.ports {
		if port.Device == p.ends[self].Device && port.number == p.ends[self].Port {
			n.port, n.index = port, i
		}
	}
	sends, receives = min(sends, n.port.limits.MaxQPWR), min(receives, n.port.limits.MaxQPWR)
	n.depth, n.wrs = uint64(sends), make([]rdma.SendWR, 0, sends)
	if n.out, err = newMemory(max(sends, packetEntries)); err != nil {
		return n, err
	}
	if n.outKey, err = n.port.pd.Register(n.out.mem, 0); err != nil {
		return n, err
	}
	if n.inKey, err = n.port.pd.Register(inbox.mem, rdma.LocalWrite|rdma.RemoteWrite); err != nil {
		return n, err
	}
	if n.channel, err = n.port.device.CreateChannel(); err != nil {
		return n, err
	}
	if n.cq, err = n.port.device.CreateCQ(min(sends+receives, n.port.limits.MaxCQE), n.channel); err != nil {
		return n, err
	}
	n.qp, err = n.port.pd.CreateQP(rdma.QPConfig{Send: n.cq, Recv: n.cq, MaxSend: sends, MaxRecv: receives, MaxInline: entryBytes})
	if err != nil {
		return n, err
	}
	if err = n.qp.Init(n.port.number, t.cfg.PKeyIndex, rdma.LocalWrite|rdma.RemoteWrite); err != nil {
		return n, err
	}
	n.owed = receives
	_, _, err = n.step()
	return n, err
}

// connect makes the queue pair reach the peer's.
func (n *lane) connect(cfg *Config, self int, peer *laneSetup) error {
	other := n.path.ends[1-self]
	p := rdma.Path{
		RemoteQP: peer.QP, RemotePSN: peer.PSN, RemoteLID: other.LID, Port: n.port.number, GIDIndex: -1,
		SL: uint8(cfg.ServiceLevel), TrafficClass: uint8(cfg.TrafficClass), HopLimit: 64, MTU: n.path.mtu, LocalPSN: n.psn,
		Timeout: uint8(cfg.Timeout), Retry: uint8(cfg.Retry), RNRRetry: 7, MinRNRTimer: 1,
	}
	if g := n.path.gids[self]; g >= 0 {
		p.GIDIndex, p.RemoteGID = n.path.ends[self].GIDs[g].Index, other.GIDs[n.path.gids[1-self]].Raw
	}
	n.peerKeys = peer.Keys
	return n.qp.Connect(p)
}

// room reports whether the send queue takes so many more work requests and leaves some for others.
func (n *lane) room(wrs, leave int) bool {
	return n.posted-n.reaped+uint64(wrs+leave) <= n.depth
}

// entry returns the number of the next work request's entry, with the header set.
func (n *lane) entry(h header) int {
	i := int(n.posted % n.depth)
	*n.out.header(i) = h
	return i
}

// add appends a work request. The last one of anything whose completion matters is signaled, and now and then one, so that
// the queue's places come back.
func (n *lane) add(w rdma.SendWR, signal bool) {
	n.posted++
	if n.unsignaled++; signal || n.unsignaled >= n.depth/4 {
		w.Flags |= rdma.Signaled
		n.unsignaled = 0
	}
	w.ID = n.posted
	n.wrs = append(n.wrs, w)
}

// addEntry appends the write of an entry, which was just set, to an entry of the peer's inbox; with an immediate unless
// the payload follows.
func (n *lane) addEntry(i, bytes int, to uint64, imm immediate, last, signal bool) {
	w := rdma.SendWR{Op: rdma.Write, Addr: n.out.addr(i), Bytes: uint32(bytes), LKey: n.outKey.LKey(), RemoteAddr: to, RKey: n.peerKeys.Inbox}
	if last {
		w.Op, w.Imm = rdma.WriteImm, uint32(imm)
	}
	if bytes <= n.qp.MaxInline() {
		w.Flags |= rdma.Inline
	}
	n.add(w, signal)
}

// addProof appends the write of a whole packet, of zeroes, over the peer's inbox, which nothing else is in yet.
func (n *lane) addProof(inbox uint64) {
	n.add(rdma.SendWR{
		Op: rdma.WriteImm, Imm: uint32(proof), Addr: n.out.addr(0), Bytes: uint32(n.path.mtu), LKey: n.outKey.LKey(),
		RemoteAddr: inbox, RKey: n.peerKeys.Inbox,
	}, true)
}

// addPayload appends the writes of a payload; a device's work requests have a largest size.
func (n *lane) addPayload(payload []byte, key uint32, to uint64, rkey uint32, imm immediate) {
	most := int(n.port.attr.MaxMessageBytes)
	at := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(payload))))
	for left := len(payload); left > 0; {
		part := min(left, most)
		w := rdma.SendWR{Op: rdma.Write, Addr: at, Bytes: uint32(part), LKey: key, RemoteAddr: to, RKey: rkey}
		if left -= part; left == 0 {
			w.Op, w.Imm = rdma.WriteImm, uint32(imm)
		}
		n.add(w, left == 0)
		at, to = at+uint64(part), to+uint64(part)
	}
}

// parts returns how many work requests addPayload makes.
func (n *lane) parts(bytes int) int {
	most := int(n.port.attr.MaxMessageBytes)
	return (bytes + most - 1) / most
}

// step posts what waits and takes completions, n.done[:done], in one crossing into C.
func (n *lane) step() (posted, done int, err error) {
	posted, done, err = n.qp.Step(n.wrs, n.owed, n.done[:])
	if err != nil {
		return posted, 0, err
	}
	n.wrs, n.owed, n.gone = n.wrs[:0], 0, n.posted
	return posted, done, nil
}

// sleep asks the channel to tell of the next completion, whatever it told of before.
func (n *lane) sleep() error {
	if _, err := n.channel.Drain(); err != nil {
		return err
	}
	return n.cq.Arm()
}

// destroy gives everything back; afterwards neither side's device reads or writes memory for this queue pair.
func (n *lane) destroy() error {
	var errs []error
	if n.qp != nil {
		errs = append(errs, n.qp.Close())
	}
	if n.cq != nil {
		errs = append(errs, n.cq.Close())
	}
	if n.channel != nil {
		errs = append(errs, n.channel.Close())
	}
	for _, mr := range []*rdma.MR{n.inKey, n.outKey} {
		if mr != nil {
			errs = append(errs, mr.Close())
		}
	}
	return errors.Join(append(errs, n.out.unmap())...)
}

// failure describes a work request that failed.
func (n *lane) failure(c *rdma.Completion) error {
	return fmt.Errorf("%v (%v, vendor error %#x)", c.Status, n.path, c.VendorErr)
}
