// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"fmt"
	"syscall"
)

// State is the state of a QP, enum ibv_qp_state.
//
//	RESET ── Init ──> INIT ── Connect ──> RTR ──> RTS ── Fail, or an error ──> ERR
//
// In INIT receives can be posted; in RTR (ready to receive) a peer's messages arrive; in RTS (ready to send) sends go
// out; in ERR all that is posted completes with StatusFlushed.
type State uint32

// The states of a QP.
const (
	StateReset State = iota
	StateInit
	StateRTR
	StateRTS
	StateSQDrained
	StateSQError
	StateError
)

// String returns the name in the words of verbs.
func (s State) String() string {
	return name(s, []string{"RESET", "INIT", "RTR", "RTS", "SQD", "SQE", "ERR"})
}

// QPConfig is what a QP is made of.
type QPConfig struct {
	Send, Recv *CQ // where its sends and receives complete; may be the same; of the PD's device
	MaxSend    int // sends that can be outstanding, at least 1
	MaxRecv    int // receives that can be outstanding, at least 0
	MaxInline  int // bytes that a send can carry within the work request; see QP.MaxInline
}

// check finds faults in the configuration for a protection domain.
func (c *QPConfig) check(p *PD) error {
	switch {
	case c.Send == nil || c.Recv == nil:
		return invalidf("a QP needs a CQ for its sends and one for its receives")
	case c.Send.root() != p.root() || c.Recv.root() != p.root():
		return invalidf("a CQ of the QP is not of the PD's opening of %s", p.device)
	case c.MaxSend < 1 || c.MaxSend > 1<<30 || c.MaxRecv < 0 || c.MaxRecv > 1<<30:
		return invalidf("a QP of %d sends and %d receives", c.MaxSend, c.MaxRecv)
	case c.MaxInline < 0 || c.MaxInline > 1<<20:
		return invalidf("a QP with %d bytes inline", c.MaxInline)
	}
	return nil
}

// QP is a queue pair of the type RC: reliable and connected to one other. A send completes, and makes a [Completion], only
// if it is signaled or fails; the send queue's room is freed by the completion of it or a later one.
type QP struct {
	object
	queues queues
	number uint32
	inline int
}

// queues are the handles that the hot path needs.
type queues struct{ qp, send, recv handle }

// CreateQP makes a queue pair in the state RESET. If the device refuses the asked MaxInline, half of it is tried, and so
// on, down to 0.
//
// Implements: ibv_create_qp.
func (p *PD) CreateQP(c QPConfig) (*QP, error) {
	if err := c.check(p); err != nil {
		return nil, err
	}
	q := &QP{}
	parents := []*object{&p.object, &c.Send.object, &c.Recv.object}
	err := q.create(kindQP, p.device, func() (handle, error) {
		h, errno := q.make(p.handle, c)
		return h, explainPinning(p.failed(errno, "ibv_create_qp", fmt.Sprintf("of %d sends and %d receives", c.MaxSend, c.MaxRecv)))
	}, parents...)
	if err != nil {
		return nil, err
	}
	return q, nil
}

// make tries ibv_create_qp with less and less inline data.
func (q *QP) make(pd handle, c QPConfig) (h handle, errno syscall.Errno) {
	for {
		h, q.number, q.inline, errno = rawCreateQP(pd, c)
		if errno == 0 || c.MaxInline == 0 {
			q.queues = queues{qp: h, send: c.Send.handle, recv: c.Recv.handle}
			return h, errno
		}
		c.MaxInline /= 2
	}
}

// Number returns the QP's number on its device, by which the peer names it (Path.RemoteQP): 24 bits.
func (q *QP) Number() uint32 { return q.number }

// MaxInline returns how many bytes a send can carry inline: that many need no registered memory, and their buffer can be
// reused when Step returns. It can be less or more than what was asked for.
func (q *QP) MaxInline() int { return q.inline }

// Init binds a QP in RESET to a port, a partition and what peers may do with the memory of its PD. Then receives can be
// posted, which must be before the peer sends.
//
// Implements: ibv_modify_qp.
func (q *QP) Init(port, pkeyIndex int, a Access) error {
	if err := checkPort(port); err != nil {
		return err
	}
	if pkeyIndex < 0 || pkeyIndex > 0xffff {
		return invalidf("partition key index %d", pkeyIndex)
	}
	return q.with(func() error {
		return q.failed(rawInit(q.handle, port, pkeyIndex, a&^RelaxedOrdering), "ibv_modify_qp", "to INIT")
	})
}

// Fail brings the QP into ERR: all that is posted, and sends that will be, complete with StatusFlushed, unless they have
// completed already. Receives that are posted afterwards may complete late or never: the kernel's rxe does not look at
// them. The peer is not told: its sends fail when its retries are used up.
//
// Implements: ibv_modify_qp.
func (q *QP) Fail() error {
	return q.with(func() error { return q.failed(rawFail(q.handle), "ibv_modify_qp", "to ERR") })
}

// State asks for the state that the QP is in.
//
// Implements: ibv_query_qp.
func (q *QP) State() (s State, err error) {
	err = q.with(func() error {
		var errno syscall.Errno
		s, errno = rawState(q.handle)
		return q.failed(errno, "ibv_query_qp", "")
	})
	return s, err
}

// Close gives the QP back: what is posted is dropped without a completion, and the device touches its memory no more.
// Completions that are already in the CQs may be lost.
//
// Implements: ibv_destroy_qp.
func (q *QP) Close() error { return q.close() }
