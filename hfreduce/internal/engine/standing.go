// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"sync/atomic"
)

// Stage is the part of a collective that a rank began last. Stages of different items overlap, so a rank may come back to
// an earlier one.
type Stage uint8

// The stages.
const (
	StageOutside Stage = iota // in no collective
	StageEnter                // has begun it
	StageInput                // staging its input, or having its device copy it (D2H)
	StageReduce               // adding
	StageUp                   // sending partial sums: up a tree, to the other node of a pair, in a round of an exchange
	StageDown                 // has a result from its tree parent, or sends one to its children
	StageOutput               // copying the result out, or having its device copy it (H2D)
	StageLeave                // its part is through
)

var stageNames = [...]string{"outside", "enter", "input", "reduce", "up", "down", "output", "leave"}

// String names the stage in one word.
func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return fmt.Sprintf("stage(%d)", uint8(s))
}

// Standing is where a rank is: which collective it began last, and what of it.
type Standing struct {
	Call  uint64 // as it was given to Enter, 0 before the first
	Stage Stage  // StageOutside once that collective has ended
}

// stageBits of a state word hold the stage, the others the number of the collective.
const stageBits = 8

// begins notes, for the ranks of the node and whoever asks (Ask), what this rank does now.
func (e *Engine) begins(s Stage) {
	storeState(e.state, e.call|uint64(s))
	if e.probe != nil {
		e.probe(s)
	}
}

// Enter notes that this rank begins a collective, by its number; Run notes its end, if that is no error.
func (e *Engine) Enter(call uint64) {
	e.call = call << stageBits
	e.begins(StageEnter)
}

// leaves ends a collective.
func (e *Engine) leaves() {
	if e.probe != nil {
		e.begins(StageLeave)
	}
	storeState(e.state, e.call|uint64(StageOutside))
}

// Standings returns where the ranks of the node stand, by local rank, as the segment shows it: that outlives their
// processes. It may be called from any goroutine while the segment is mapped.
func (e *Engine) Standings() []Standing {
	all := make([]Standing, e.localSize)
	for l := range all {
		word := atomic.LoadUint64(e.mem.stateWord(l))
		all[l] = Standing{Call: word >> stageBits, Stage: Stage(word & (1<<stageBits - 1))}
	}
	return all
}

// Reason says what a rank waits for from another one.
type Reason uint8

// The reasons.
const (
	ForInput   Reason = iota + 1 // its input is not staged
	ForShare                     // its share of the node's sum is not there
	ForPartial                   // its partial sum has not arrived (tree up)
	ForResult                    // its result has not arrived (tree down)
	ForRoom                      // it has not made room for, or taken, what is sent to it
	ForSlot                      // it is not through with an earlier item
	ForLink                      // the link to it is being made
)

var reasonTexts = [...]string{ForInput: "its input", ForShare: "its share of the node's sum", ForPartial: "its partial sum", ForResult: "its result", ForRoom: "it to take a message", ForSlot: "it to finish an earlier chunk", ForLink: "a link to it"}

// String words the reason: "its input".
func (r Reason) String() string {
	if r > 0 && int(r) < len(reasonTexts) {
		return reasonTexts[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Need is one rank that this rank waits for.
type Need struct {
	Rank int
	For  Reason
}

// Position is a rank's answer to where it stands.
type Position struct {
	Standing
	Needs  []Need // whom the oldest unfinished item waits for, or the item that finds no slot; one for each rank
	Device bool   // it waits for its own device
}

// question is one call of Ask.
type question struct {
	answer chan Position
	before *question // that is not answered either
}

// Ask has the goroutine that runs the collective say where it stands, on a channel that gets one value: soon if it runs or
// sleeps in Run, never if nothing runs or the goroutine is held up. It may be called from any goroutine.
func (e *Engine) Ask() <-chan Position {
	q := &question{answer: make(chan Position, 1)}
	for {
		q.before = e.asked.Load()
		if e.asked.CompareAndSwap(q.before, q) {
			break
		}
	}
	e.attention.Or(asked)
	e.cfg.Bells[e.local].Ring()
	return q.answer
}

// Bits of Engine.attention.
const (
	broken = 1 << iota
	asked
)

// attend does what others want of the running collective.
func (e *Engine) attend(a uint32) error {
	if a&broken != 0 {
		return *e.cause.Load()
	}
	e.attention.And(^uint32(asked))
	for q := e.asked.Swap(nil); q != nil; q = q.before {
		q.answer <- e.Position()
	}
	return nil
}

// Position returns where this rank stands. It is for the goroutine that runs collectives, also after one has failed.
func (e *Engine) Position() Position {
	s := e.stalled()
	p := Position{Standing: Standing{Call: e.call >> stageBits}, Needs: s.Needs, Device: s.Device}
	p.Stage = Stage(atomic.LoadUint64(e.state) & (1<<stageBits - 1))
	return p
}
