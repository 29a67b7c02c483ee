// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
)

// read passes on what one rank sends, until its connection ends.
func (h *hub) read(rank int, w *wire) {
	for {
		k, body, err := readFrame(w.in, maxUpFrame)
		if err == nil {
			err = h.take(rank, w, k, body)
		}
		if err != nil {
			h.end(rank, w, w.cause(err))
			return
		}
	}
}

// take handles one message; an error ends the connection.
func (h *hub) take(rank int, w *wire, k kind, body []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := &h.members[rank]
	if m.current(w) && h.phase == phaseGathering && k == kindFailed {
		return h.deadline(m, body)
	}
	if !m.current(w) || h.phase != phaseMet || m.left || m.lost != nil {
		return fmt.Errorf("%w: kind %d at the wrong time", errFrame, k)
	}
	delete(h.rolls.absent, rank) // it lives, and will say goodbye
	switch k {
	case kindExchange:
		key, members, part, err := parseExchange(body)
		if err == nil {
			err = checkMembers(rank, len(h.members), members)
		}
		if err != nil {
			return err
		}
		h.deliver(h.exchanges.contribute(rank, key, members, part, h.gone))
		return nil
	case kindAbort, kindNotice:
		_, scope, text, err := parseAbort(body)
		if err != nil {
			return err
		}
		h.broadcast(abortFrame(k, rank, scope, text), func(r int) bool { return r == rank })
		return nil
	case kindReport:
		return h.report(rank, body)
	case kindAnswer:
		return h.answer(rank, body)
	case kindRollCall:
		return h.rollCall(rank, body)
	case kindOverdue:
		return h.overdue(rank, body)
	case kindWithdraw:
		return h.withdraw(rank, body)
	case kindGone:
		return h.bury(rank, body)
	case kindGoodbye:
		m.left = true
		h.excuse(rank)
		w.send(newFrame(kindGoodbye, nil))
		w.finish()
		return nil
	}
	return fmt.Errorf("%w: unknown kind %d", errFrame, k)
}

// bury takes the word of a rank that the process of another one has ended. Its connection may be open still, in the hands of a
// child that it forked. Who said goodbye has ended as it should.
func (h *hub) bury(rank int, body []byte) error {
	gone, _, text, err := parseAbort(body)
	if err == nil && (gone == rank || gone >= len(h.members)) {
		err = fmt.Errorf("%w: rank %d says that rank %d is gone", errFrame, rank, gone)
	}
	if err != nil {
		return err
	}
	m := &h.members[gone]
	if m.left || m.lost != nil || gone == h.cfg.Rank { // this process is none that has ended
		return nil
	}
	if m.awaited {
		m.awaited, m.backlog = false, nil
		h.awaited--
	}
	h.lose(gone, errors.New(text))
	if m.wire != nil {
		m.wire.kill()
	}
	h.checkEmpty()
	return nil
}

// answerTimeout is how long the hub waits for what the members of a case know. Who is alive answers at once, whatever its
// program does; the dead are known to be so at once, too. So it is what a verdict takes when a process is stopped.
const answerTimeout = 500 * time.Millisecond

// report opens a case, or finds that there is one.
func (h *hub) report(rank int, body []byte) error {
	c, err := parseReport(body)
	if err == nil {
		err = errors.Join(checkMembers(rank, len(h.members), c.Members), checkMembers(c.Reporter, len(h.members), c.Members))
	}
	if err != nil {
		return err
	}
	out, opened := h.cases.report(c, h.gone)
	h.deliver(out)
	h.after(answerTimeout, opened, h.cases.expire)
	return nil
}

// answer takes what a member knows of a case.
func (h *hub) answer(rank int, body []byte) error {
	id, text, err := parseAnswer(body)
	if err == nil {
		h.deliver(h.cases.answer(rank, id, text))
	}
	return err
}

// rollCall takes a rank into a roll call.
func (h *hub) rollCall(rank int, body []byte) error {
	key, members, patience, part, err := parseRollCall(body)
	if err == nil {
		err = checkMembers(rank, len(h.members), members)
	}
	if err != nil {
		return err
	}
	out, opened := h.rolls.come(rank, key, members, part, h.gone)
	h.deliver(out)
	h.after(patience, opened, h.rolls.expire)
	return nil
}

// withdraw takes a rank out of a roll call again.
func (h *hub) withdraw(rank int, body []byte) error {
	key, err := parseKey(body)
	if err == nil {
		h.deliver(h.rolls.withdraw(rank, key))
	}
	return err
}

// overdue tells a rank who is missing in an exchange.
func (h *hub) overdue(rank int, body []byte) error {
	key, err := parseKey(body)
	if err == nil {
		h.deliver(h.exchanges.overdue(rank, key))
	}
	return err
}

// after calls expire with an id, unless that is 0, after a while.
func (h *hub) after(d time.Duration, id int, expire func(id int) []delivery) {
	if id == 0 {
		return
	}
	time.AfterFunc(d, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.phase == phaseMet {
			h.deliver(expire(id))
		}
	})
}

// excuse takes a rank that is gone out of everything under way.
func (h *hub) excuse(rank int) {
	f := h.gone(rank)
	h.deliver(h.exchanges.lose(rank, f))
	h.deliver(h.cases.lose(rank, f))
	h.deliver(h.rolls.lose(rank, h.gone))
}

// deadline fails the rendezvous because the patience of a rank has ended.
func (h *hub) deadline(m *member, body []byte) error {
	f, err := parseFailed(body)
	if err == nil {
		h.fail(failuref(codeTimeout, "the ranks did not meet: %s; the first to give up was %s: %s", h.waiting(), m.process(), f.text))
	}
	return err
}

// gone says why a rank takes no part in exchanges any more, or nil.
func (h *hub) gone(rank int) *failure {
	m := &h.members[rank]
	if m.left {
		return failuref(codeClosed, "rank %d (%s) has closed", rank, m.process())
	}
	return m.lost
}

func (h *hub) deliver(deliveries []delivery) {
	for _, d := range deliveries {
		for _, rank := range d.to {
			h.members[rank].post(d.frame)
		}
	}
}

// end is called once for every connection when nothing more can be read from it.
func (h *hub) end(rank int, w *wire, cause error) {
	w.kill()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.connected--
	m := &h.members[rank]
	switch {
	case !m.current(w): // replaced
	case h.phase == phaseGathering:
		m.wire = nil
		h.arrived--
		h.cfg.Logger.Warn("bootstrap: a rank left before all had met",
			slog.Int("rank", rank), slog.String("process", m.process()), slog.Any("cause", cause))
	case h.phase == phaseMet && !m.left && m.lost == nil:
		h.lose(rank, cause)
	}
	h.checkEmpty()
}

// checkEmpty notes the end of the last member. Whom the others have gone on without may never say goodbye.
func (h *hub) checkEmpty() {
	if h.awaited > 0 || h.phase == phaseGathering {
		return
	}
	rest := h.connected
	for rank := range h.rolls.absent {
		if m := &h.members[rank]; m.wire != nil && !m.left && m.lost == nil {
			rest--
		}
	}
	if rest > 0 {
		return
	}
	select {
	case <-h.empty:
	default:
		close(h.empty)
	}
}

// lose tells everybody that a rank is lost.
func (h *hub) lose(rank int, cause error) {
	m := &h.members[rank]
	text := describe(cause)
	m.lost = failuref(codeLost, "rank %d (%s) is lost: %s", rank, m.process(), text)
	h.broadcast(abortFrame(kindLost, rank, "", text), nil)
	h.excuse(rank)
}

// remaining lists the ranks that have neither closed nor been lost.
func (h *hub) remaining() []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ranks []int
	for rank := range h.members {
		if m := &h.members[rank]; rank != h.cfg.Rank && !m.left && m.lost == nil && !h.rolls.absent[rank] {
			ranks = append(ranks, rank)
		}
	}
	return ranks
}

// leave tells the ranks that are still connected that rank 0 closes without waiting for them.
func (h *hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase = phaseClosed
	h.broadcast(newFrame(kindGoodbye, nil), nil)
	for i := range h.members {
		if w := h.members[i].wire; w != nil {
			w.finish()
		}
	}
	h.giveUpAwaited()
}

// describe words the end of a connection.
func describe(cause error) string {
	switch {
	case errors.Is(cause, io.EOF), errors.Is(cause, io.ErrUnexpectedEOF):
		return "its connection ended without a goodbye"
	case pulse.Cut(cause):
		return "its host does not answer: " + cause.Error()
	}
	return cause.Error()
}
