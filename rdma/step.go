// SPDX-License-Identifier: Apache-2.0

package rdma

import "syscall"

// Opcode is what a send does, enum ibv_wr_opcode.
type Opcode uint32

// The opcodes. A write puts bytes at RemoteAddr and the peer's software does not notice; a write with immediate also
// takes a receive of the peer's and gives it Imm; a send takes a receive, and its bytes go where that says.
const (
	Write Opcode = iota
	WriteImm
	Send
)

// String returns the name.
func (o Opcode) String() string { return name(o, []string{"write", "write with immediate", "send"}) }

// Flags change how a send is done, enum ibv_send_flags.
type Flags uint32

// The flags. Fence waits for earlier RDMA reads. Signaled makes a Completion of success, too. Inline reads the bytes
// when Step is called: they need no LKey and may be changed when it returns, and are at most QP.MaxInline.
const (
	Fence    Flags = 1 << 0
	Signaled Flags = 1 << 1
	Inline   Flags = 1 << 3
)

// SendWR is a send work request. C reads it as it is (struct vb_send in seam.h), and it has no pointers.
type SendWR struct {
	ID         uint64 // comes back as Completion.ID; not ReceiveID, to be told from receives where both share a CQ
	Op         Opcode
	Flags      Flags
	Addr       uint64 // of the bytes here, within the MR of LKey
	Bytes      uint32 // may be 0: then Addr, LKey, RemoteAddr and RKey are not looked at
	LKey       uint32
	RemoteAddr uint64 // where a write puts them, within the peer's MR of RKey
	RKey       uint32
	Imm        uint32 // of WriteImm, as a number: it arrives as the same one whatever the byte order of either host
}

// ReceiveID is the Completion.ID of all receives.
const ReceiveID = 1<<64 - 1

// CompletionOp is what completed, enum ibv_wc_opcode.
type CompletionOp uint32

// The operations. A peer's send completes as CompletedReceive, its write with immediate as CompletedReceiveImm.
const (
	CompletedSend       CompletionOp = 0
	CompletedWrite      CompletionOp = 1 // with or without immediate
	CompletedReceive    CompletionOp = 128
	CompletedReceiveImm CompletionOp = 129
)

// Completion is a work completion. C writes it as it is (struct vb_completion in seam.h). If Status is not StatusSuccess
// only ID, QP and VendorErr say something; the rest is 0.
type Completion struct {
	ID        uint64 // of the SendWR, or ReceiveID
	Status    WCStatus
	Op        CompletionOp
	Bytes     uint32 // that a receive got, or that a peer's write with immediate wrote
	Imm       uint32 // if WithImm
	QP        uint32 // the number of the QP, where QPs share a CQ
	VendorErr uint32 // the device's own code for a failure
	WithImm   bool
}

// stepped is what the C side of a step did.
type stepped struct {
	posted, polled int
	errno          syscall.Errno
	verb           int // which call failed: an index of stepVerbs
}

var stepVerbs = [...]string{"", "ibv_post_recv", "ibv_post_send", "ibv_poll_cq"}

// Step is the data path. In one call of C it posts receives, of no bytes, for the peer's writes with immediate and empty
// sends; then posts the sends, in order, in chains of up to 32; then takes completions from the QP's CQs, up to
// len(done): receives before sends if the two have CQs of their own. It returns how many sends were posted and how many
// entries of done are filled, which includes completions of other QPs that share the CQs. Any of send, receives and done
// may be empty. Nothing is allocated unless it fails.
//
// An error is of posting or polling itself; what failed on the way to the peer is a Completion with its Status. After an
// error sends from the posted-th on were not posted; completions are returned all the same. ENOMEM says that the queue
// is full: the caller lost count of what is outstanding.
//
// Implements: ibv_post_recv, ibv_post_send, ibv_poll_cq.
func (q *QP) Step(send []SendWR, receives int, done []Completion) (posted, n int, err error) {
	if receives < 0 {
		return 0, 0, invalidf("%d receives", receives)
	}
	if !q.hold() {
		return 0, 0, ErrClosed
	}
	s := rawStep(&q.queues, send, receives, done)
	if s.errno != 0 {
		err = q.stepFailed(s)
	}
	return s.posted, s.polled, both(err, q.drop())
}

// stepFailed makes the error of a step.
func (q *QP) stepFailed(s stepped) error {
	e := &Error{Verb: stepVerbs[s.verb], What: "on " + q.device, Errno: s.errno}
	if s.errno == syscall.ENOMEM {
		e.Detail = "the queue is full: more is outstanding than the QP was made for"
	}
	return e
}
