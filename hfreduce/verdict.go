// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
)

// How a communicator breaks. A rank that finds a fault reports it (Comm.report); the fabric asks every member what it knows
// (Comm.answer), judges once (judge) and tells all the same verdict (Comm.heard), which is the cause that every rank's calls
// return. Only what cannot be mistaken, Abort and faults of the own GPU, breaks the Comm here at once, and is told as it is.

// verdictKind says why a communicator broke.
type verdictKind string

const (
	verdictAborted  verdictKind = "aborted"
	verdictLost     verdictKind = "lost"
	verdictMismatch verdictKind = "mismatch"
	verdictTimeout  verdictKind = "timeout"
	verdictCorrupt  verdictKind = "corrupt"
	verdictFault    verdictKind = "fault"
	// noticeWaiting is no verdict: the rank has waited for a while in a collective and says which.
	noticeWaiting verdictKind = "waiting"
	// noticeLost is no verdict either: a rank's connection has ended.
	noticeLost verdictKind = "gone"
)

// sentinel returns the error that a verdict wraps.
func (k verdictKind) sentinel() error {
	switch k {
	case verdictLost:
		return ErrPeerLost
	case verdictMismatch:
		return ErrMismatch
	case verdictTimeout:
		return ErrTimeout
	case verdictCorrupt:
		return ErrCorrupt
	}
	return ErrAborted
}

// verdict is why a communicator broke, as all ranks hear it, or a notice. An empty scope means every communicator that the
// rank is part of.
type verdict struct {
	Kind     verdictKind
	Rank     int // world rank: that says so; for noticeLost the one that is gone
	Text     string
	Judged   bool      `json:",omitempty"` // Text names the ranks
	Culprits []Culprit `json:",omitempty"`
	Seq      uint64    `json:",omitempty"` // noticeWaiting: number of the collective
	Tag      uint32    `json:",omitempty"` // noticeWaiting: its fingerprint
}

// encode returns the verdict as text, without what is least needed if it would be too long.
func (v verdict) encode() string {
	text := encode(v, v.Text)
	for _, less := range []func(){
		func() { v.Text = clipped(v.Text) },
		func() { v.Culprits = nil },
	} {
		if len(text) <= maxMessage {
			break
		}
		less()
		text = encode(v, v.Text)
	}
	return text
}

// maxMessage bounds what is said of a fault, which travels in one message: what is cut off one cannot be read, and who cannot be
// understood is taken for one that has closed the communicator.
const maxMessage = 16 << 10

func decodeVerdict(rank int, text string) verdict {
	v := verdict{Kind: verdictAborted, Rank: rank, Text: text}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return verdict{Kind: verdictAborted, Rank: rank, Text: text}
	}
	return v
}

// maxCause bounds what one rank says of a fault: it is to fit, escaped, into a message.
const maxCause = 2 << 10

func clipped(text string) string {
	if len(text) <= maxCause {
		return text
	}
	return strings.ToValidUTF8(text[:maxCause], "") + " ..."
}

// encode returns v as text. What is told between ranks is made of numbers and strings, which always encode.
func encode(v any, otherwise string) string {
	b, err := json.Marshal(v)
	if err != nil {
		return otherwise
	}
	return string(b)
}

// report is what a rank says of a fault that it has found.
type report struct {
	Kind    verdictKind
	Seq     uint64 // of the collective in which it was found, 0 for none
	Call    string // what the rank calls as that collective
	Accused int    // world rank at which it points, -1 for none
	Text    string

	Suspects []int `json:",omitempty"` // world ranks: of verdictCorrupt, whose memory, or way, it may have been
}

// answer is what a rank knows when another one has reported a fault. Ranks in it are world ranks.
type answer struct {
	Seq    uint64 // the collective that it is in, or was in last
	Inside bool
	Phase  Phase
	Call   string // what it called as Seq
	Calls  []made // its latest ones
	Needs  []need // whom it waits for
	Device bool   // it waits for its own GPU
	Held   bool   // it is in a collective, but the goroutine that runs it does not move
	GPU    string
	Mates  []sighting // the ranks of its node, as their segment shows them

	Elsewhere *elsewhere // another communicator, in which it waits
	Broken    *verdict   // it has broken already, and why
}

// encode returns the answer as text, without what is least needed if it would be too long.
func (a answer) encode() string {
	for _, less := range []func(){
		func() { a.Mates = a.Mates[:min(len(a.Mates), maxCulprits)] },
		func() { a.Needs = a.Needs[:min(len(a.Needs), maxCulprits)] },
		func() { a.Elsewhere = nil },
		func() { a.Mates, a.Calls = nil, nil },
		func() {
			if a.Broken != nil {
				a.Broken = &verdict{Kind: a.Broken.Kind, Rank: a.Broken.Rank, Judged: true, Text: a.Broken.Text[:min(len(a.Broken.Text), maxMessage/8)]}
			}
		},
	} {
		if text := encode(a, ""); len(text) <= maxMessage {
			return text
		}
		less()
	}
	return encode(a, "")
}

// need is a rank that is waited for, and what for.
type need struct {
	Rank int
	For  engine.Reason
}

// sighting is where a rank was last seen.
type sighting struct {
	Rank  int
	Seq   uint64
	Phase Phase
}

// elsewhere is a collective of another communicator.
type elsewhere struct {
	Comm  string
	Seq   uint64
	Call  string
	Needs []need
}

// Phase is a part of a collective. It says what a rank did when it was last seen.
type Phase string

// The phases, in their order. Those of different chunks overlap.
const (
	PhaseOutside Phase = "outside"     // in no collective
	PhaseEntered Phase = "entered"     // called it, and has given nothing yet
	PhaseInput   Phase = "input (D2H)" // staging its input, or having it copied from the GPU
	PhaseReduce  Phase = "node reduce" // adding what the node's ranks gave
	PhaseUp      Phase = "tree up"     // sending sums to other nodes
	PhaseDown    Phase = "tree down"   // passing results on
	PhaseOutput  Phase = "output (H2D)"
	PhaseUnknown Phase = "" // nobody saw it
)

// phaseOf names an engine's stage.
func phaseOf(s engine.Stage) Phase {
	switch s {
	case engine.StageOutside, engine.StageLeave:
		return PhaseOutside
	case engine.StageEnter:
		return PhaseEntered
	case engine.StageInput:
		return PhaseInput
	case engine.StageReduce:
		return PhaseReduce
	case engine.StageUp:
		return PhaseUp
	case engine.StageDown:
		return PhaseDown
	}
	return PhaseOutput
}

// Culprit is a rank to which a fault is put down.
type Culprit struct {
	Rank  int    // in the communicator
	Host  string // host name
	PID   int
	GPU   string `json:",omitempty"` // PCI address, "" if it used none or nobody can tell any more
	Seq   uint64 // the collective, by its number from 1, that it was last seen in; 0 if nobody saw it in one
	Phase Phase  // what it was last seen doing
	Lost  bool   // its process, or every way to it, is gone; otherwise it lives
}

// FaultError is why a communicator broke: errors.As finds it in what calls return, the same on all ranks that were told by
// each other. It wraps ErrPeerLost, ErrTimeout, ErrMismatch, ErrCorrupt or ErrAborted.
type FaultError struct {
	Err      error     // which of them
	Culprits []Culprit // the ranks that it is put down to, by rank, at most 64; empty when there is nobody to blame
	Text     string    // what happened, naming the ranks
	Cause    error     // what this rank itself found, nil on others; errors.Is finds it too
}

// Error returns one line.
func (e *FaultError) Error() string { return fmt.Sprintf("%v: %s", e.Err, e.Text) }

// Unwrap returns the sentinel and this rank's own cause.
func (e *FaultError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}

// errorOf returns a verdict as an error.
func (c *Comm) errorOf(v verdict, cause error) *FaultError {
	e := &FaultError{Err: v.Kind.sentinel(), Culprits: v.Culprits, Text: v.Text, Cause: cause}
	if !v.Judged {
		e.Text = fmt.Sprintf("rank %d: %s", c.rankOf(v.Rank), v.Text)
	}
	return e
}
