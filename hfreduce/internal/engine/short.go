// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"math"
	"sync/atomic"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// A small reduction to all ranks takes no pipeline:
//
//  1. gather: every rank puts its input and a flag where the ranks of its node read them, and adds all of them itself, in
//     the pipeline's order: one exchange of cache lines where the pipeline takes three
//  2. exchange, where there are several nodes: rounds of recursive doubling between ranks of equal local number, so that no
//     rank waits for another one of its node again (schedule.Exchange). In some rounds a rank may only give, take, or do nothing
//
// Two sets of areas take turns. A rank that begins a reduction has seen the flags of its node's ranks, and the messages of
// its partners, for the one before; so all of them have left the one before that, whose areas it and they write.

// short is the state of the small reduction at hand.
type short struct {
	count   uint32 // of small reductions so far, which chooses the set
	open    bool   // it has not ended
	pending bool   // it has not begun: the device has not filled its area yet, or items are before it
	input   bool   // the node's sum is this rank's input, and is sent from where it lies
	summed  bool   // another node's part was added to it
	seq     uint32 // between nodes: the item that it counts as
	waited  int    // the first local rank whose input has not been seen
	added   bool   // the node's inputs are added
	round   int    // the round at hand, from 0: the next one in which this rank has something to do
	step    schedule.Step
	sum     uint32 // of what this rank has, with checksums
	posted  bool   // in this round
	unsent  int    // messages whose memory is still the link's
}

// rounds returns the number of rounds of an exchange, 0 on a single node.
func (e *Engine) rounds() int { return e.mem.exchange.Rounds() }

// takesShort reports whether op is a small reduction: the same on all ranks, unless they make different calls.
func (e *Engine) takesShort(op *Op) bool {
	return e.mem.short(len(e.cfg.Layout.Nodes), op.Plan.Collective, op.Bytes)
}

// short reports whether a collective in which each rank gives so many bytes is a small reduction.
func (g *Geometry) short(nodes int, c schedule.Collective, bytes int64) bool {
	if nodes > 1 {
		return g.exchange.Takes(c, bytes)
	}
	return (c == schedule.AllReduce || c == schedule.Barrier) && bytes <= g.flatMax
}

// openShort begins a small reduction, or has it begin when it can.
func (e *Engine) openShort(op *Op) {
	op.SrcShare = NotShared // it is copied
	if e.device != nil && !e.shortReady() {
		e.short = short{count: e.short.count, open: true, pending: true}
		return
	}
	e.beginShort(op)
}

// shortReady reports whether the small reduction at hand can begin. One that counts as an item comes after all others.
func (e *Engine) shortReady() bool {
	return (e.rounds() == 0 || e.head == e.next) && e.bounceReady()
}

// beginShort shows this rank's input to the node.
func (e *Engine) beginShort(op *Op) {
	s := &e.short
	*s = short{count: s.count + 1, open: true}
	e.goOn(0)
	s.input = e.sendsInput()
	e.begins(StageInput)
	if e.rounds() > 0 {
		s.seq = e.next
		e.next++
	}
	if e.localSize == 1 {
		return
	}
	mine := e.mem.flatLine(s.count, e.local)
	if n := len(op.Src); n <= e.mem.inlineBytes() {
		copy(mine.inline[:], op.Src)
	} else {
		e.counter.StagedBytes.Add(uint64(copy(e.mem.flatArea(s.count, e.local), op.Src)))
	}
	if e.mem.checksums {
		*mine.sum() = sumOf(op.Src)
	}
	mine.tag, mine.scale = op.Tag, math.Float64bits(op.Scale)
	atomic.StoreUint32(&mine.seq, s.count)
	e.ringNode()
}

// advanceShort takes the reduction as far as it goes.
func (e *Engine) advanceShort() (moved bool, err error) {
	s := &e.short
	if s.pending {
		if !e.shortReady() {
			return false, nil
		}
		e.beginShort(e.op)
	}
	if !s.added {
		if moved, err = e.gather(); err != nil || !s.added {
			return moved, err
		}
	}
	for s.round < e.rounds() {
		m, err := e.exchangeRound()
		if !m || err != nil {
			return moved, err
		}
		moved = true
	}
	if s.unsent > 0 {
		return moved, nil
	}
	s.open = false
	if e.device != nil {
		e.settleBounce(e.op.Bounce)
	}
	if e.rounds() > 0 {
		e.head, e.settled, e.opened = e.next, e.next, e.next
		atomic.StoreUint32(e.mem.doneWord(e.local), s.seq)
		e.ringNode()
	}
	return true, nil
}

// gatherLooks is how often a rank looks at a flag in a row: a flag that was about to be set is seen within nanoseconds.
const gatherLooks = 32

// gather adds the node's inputs once all are there.
func (e *Engine) gather() (moved bool, err error) {
	s := &e.short
	for ; s.waited < e.localSize; s.waited++ {
		if s.waited == e.local {
			continue
		}
		l := e.mem.flatLine(s.count, s.waited)
		for looks := 0; atomic.LoadUint32(&l.seq) != s.count; looks++ {
			if looks == gatherLooks {
				return moved, nil
			}
		}
		if l.tag != e.op.Tag {
			return moved, &MismatchError{Rank: e.cfg.Layout.Nodes[e.node][s.waited]}
		}
		moved = true
	}
	e.begins(StageReduce)
	if err := e.addInputs(); err != nil {
		return true, err
	}
	s.added = true
	return true, nil
}

// addInputs adds the node's inputs, unless there is one only, which is sent from where it lies.
func (e *Engine) addInputs() error {
	switch {
	case len(e.op.Src) == 0:
		return nil
	case e.short.input:
		if e.mem.checksums {
			e.short.sum = sumOf(e.op.Src)
		}
		return nil
	}
	if err := e.gatherInputs(); err != nil {
		return err
	}
	scales := e.scales
	switch {
	case e.op.Mean:
		for l := range scales {
			scales[l] = 1 / float64(len(scales))
		}
	case !e.op.Scaled:
		scales = nil
	}
	e.addShort(scales)
	return nil
}

// gatherInputs lists the node's inputs in e.srcs and e.scales.
func (e *Engine) gatherInputs() error {
	s, n := &e.short, len(e.op.Src)
	e.srcs, e.scales = e.srcs[:0], e.scales[:0]
	for l := range e.localSize {
		if l == e.local {
			e.srcs, e.scales = append(e.srcs, e.op.Src), append(e.scales, e.op.Scale)
			continue
		}
		line := e.mem.flatLine(s.count, l)
		input := line.inline[:]
		if n > e.mem.inlineBytes() {
			input = e.mem.flatArea(s.count, l)
		}
		input = input[:n]
		if e.mem.checksums {
			if err := e.check(input, *line.sum(), e.mates()[l], hopShort, s.count, -1); err != nil {
				return err
			}
		}
		e.srcs, e.scales = append(e.srcs, input), append(e.scales, math.Float64frombits(line.scale))
	}
	return nil
}

// sendsInput reports whether the node's sum is this rank's input, and is sent from where it lies.
func (e *Engine) sendsInput() bool {
	if e.localSize > 1 || e.op.Scaled || e.rounds() == 0 {
		return false
	}
	step := &e.short.step
	return !step.Sends || e.sends(e.counterpart(step.Partner), e.op.Src)
}

// counterpart returns the rank with this rank's local number on another node.
func (e *Engine) counterpart(node int) int { return e.cfg.Layout.Nodes[node][e.local] }

// goOn makes the next round from a number on in which this rank has something to do the round at hand, or the end, at which
// step stays what it was.
func (e *Engine) goOn(round int) {
	s := &e.short
	for s.posted = false; round < e.rounds(); round++ {
		if step := e.mem.exchange.Step(e.node, round); step.Partner >= 0 {
			s.step = step
			break
		}
	}
	s.round = round
}

// complete reports whether what this rank has, or is about to add, is the result: in the rounds that are left it only gives it
// away.
func (s *short) complete(rounds int) bool { return s.round == rounds || s.step.Result && s.step.Sends }

// outbound returns what this rank has: what it sends in the round at hand, or adds to.
func (e *Engine) outbound() []byte {
	s := &e.short
	if s.input && !s.summed {
		return e.op.Src
	}
	return e.mem.outbound(s.count, e.local, s.round)[:len(e.op.Src)]
}

// addShort adds e.srcs into what this rank has from now on: the user's buffer at the end.
func (e *Engine) addShort(scales []float64) {
	s := &e.short
	spec, last := e.op.Spec, s.round == e.rounds()
	switch {
	case last:
		spec.Reduce(e.op.Dst, nil, e.srcs, scales)
		return
	case s.complete(e.rounds()):
		spec.Reduce(e.outbound(), e.op.Dst, e.srcs, scales)
	default:
		spec.Divisor = 0
		spec.Reduce(e.outbound(), nil, e.srcs, scales)
	}
	if e.mem.checksums {
		s.sum = sumOf(e.outbound())
	}
}

// exchangeRound reports whether the round at hand has ended.
func (e *Engine) exchangeRound() (ended bool, err error) {
	s := &e.short
	rank := e.counterpart(s.step.Partner)
	at := e.mem.exchangeLanding(s.count, s.round)
	if s.step.Sends && !s.posted {
		if posted, err := e.postRound(rank, at); !posted || err != nil {
			return false, err
		}
	}
	if !s.step.Takes {
		e.goOn(s.round + 1)
		return true, nil
	}
	a := &e.inbound[at]
	if !a.fresh || s.unsent > 0 && s.input && e.fillsDst() {
		return false, nil // the sum may overwrite the input
	}
	a.fresh = false
	switch {
	case a.from != rank:
		return false, e.unexpected(a, s.seq, rank)
	case a.seq != s.seq || a.tag != e.op.Tag || a.bytes != len(e.op.Src):
		return false, &MismatchError{Rank: rank}
	}
	return true, e.takeRound(rank, a, e.landings[e.exchanges+at][:len(e.op.Src)])
}

// postRound sends what this rank has, once the partner has begun.
func (e *Engine) postRound(rank int, landing uint32) (posted bool, err error) {
	s := &e.short
	if !before(s.seq, e.links[rank].Limit()) {
		return false, nil
	}
	stage := StageUp
	if s.step.Result {
		stage = StageDown
	}
	e.begins(stage)
	if err := e.send(rank, e.exchanges+landing, s.seq, e.outbound(), s.sum); err != nil {
		return false, err
	}
	s.posted = true
	s.unsent++
	_, err = e.pollLink(rank, e.links[rank]) // it leaves before anything is added
	return true, err
}

// fillsDst reports whether the user's buffer is written when this round's message is there.
func (e *Engine) fillsDst() bool {
	s := e.short // as it will be
	if s.step.Result {
		return true
	}
	for s.round++; s.round < e.rounds(); s.round++ {
		if s.step = e.mem.exchange.Step(e.node, s.round); s.step.Partner >= 0 {
			return s.complete(e.rounds())
		}
	}
	return true
}

// takeRound takes what has arrived in the round at hand, and ends it.
func (e *Engine) takeRound(rank int, a *arrival, theirs []byte) error {
	s, mine := &e.short, e.outbound()
	if err := e.checkExchanged(rank, a, mine, theirs); err != nil {
		return err
	}
	step, round := s.step, s.round
	e.goOn(round + 1)
	switch {
	case len(theirs) == 0:
		return nil
	case step.Result:
		copy(e.op.Dst, theirs)
		return nil
	}
	e.begins(StageReduce)
	if e.srcs = append(e.srcs[:0], mine, theirs); step.First {
		e.srcs[0], e.srcs[1] = theirs, mine
	}
	s.summed = true
	var scales []float64
	if e.op.Mean {
		a, b := e.mem.exchange.Parts(e.node, round), e.mem.exchange.Parts(step.Partner, round)
		if step.First {
			a, b = b, a
		}
		scales = e.weigh(a, b)
	}
	e.addShort(scales)
	return nil
}

// partner returns the rank whose message the exchange at hand waits for, -1 if it waits for none.
func (e *Engine) partner() int {
	s := &e.short
	if !s.open || !s.added || s.round == e.rounds() || !s.step.Takes || s.step.Sends && !s.posted {
		return -1
	}
	return e.counterpart(s.step.Partner)
}

// stalledShort adds the ranks that the reduction at hand waits for.
func (e *Engine) stalledShort(add func(rank int, reason Reason)) {
	s := &e.short
	if s.pending {
		return // the own device
	}
	if s.added {
		reason := ForPartial
		if s.step.Result {
			reason = ForResult
		}
		add(e.counterpart(s.step.Partner), reason) // after the last round: to take what was sent to it
		return
	}
	for l, rank := range e.cfg.Layout.Nodes[e.node] {
		if atomic.LoadUint32(&e.mem.flatLine(s.count, l).seq) != s.count {
			add(rank, ForInput)
		}
	}
}
