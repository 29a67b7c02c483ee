// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Player runs commands on a device without stream memory operations, in their stead: a Wait is over when the host reads
// the value in the word, and a Write is an event after which the host stores the value. It does so when Advance is called,
// so that somebody must call that until Idle. Its methods are safe for concurrent use.
//
// Commands of one stream are given to CUDA in order, and so are those about one event, as a WaitEvent is for the Record
// before it in the list. Others do not wait for each other: a stream that a Wait holds back holds no other stream back.
//
//	added ── earlier ones of its stream and event issued, Wait reached ──> issued ── Write: its event done ──> stored
type Player struct {
	on            stage
	added, issued atomic.Uint64

	mu      sync.Mutex
	pending []played  // not issued yet, in order
	writes  []written // issued and not stored yet, in order
	spare   []Event   // events that no write has
	batch   []command // what an Advance gives to CUDA, and beside it
	batched []written // the events and words of the writes among it, by index; event 0 for others
	held    held
	broken  error // the first error
	closed  bool
}

// stage is what a Player needs of a device.
type stage interface {
	give(list []command, f features) (done int, err error)
	NewEvent(timing bool) (Event, error)
	DestroyEvent(e Event) error
	QueryEvent(e Event) (done bool, err error)
}

// played is a command with its number, from 0, in the order of Add.
type played struct {
	command
	word   *uint32
	number uint64
}

// written is the value that is stored when the event is done.
type written struct {
	event Event
	word  *uint32
	value uint32
	done  bool
}

// held are the streams and events whose further commands must wait. There are few.
type held struct {
	streams []Stream
	events  []Event
}

// NewPlayer returns a player for a device. Close gives its events back.
func NewPlayer(d *Device) *Player { return &Player{on: d} }

// Add appends a copy of the commands. It issues nothing. The words must stay until the player is idle or closed.
func (p *Player) Add(c *Commands) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.added.Load()
	for i, one := range c.list {
		p.pending = append(p.pending, played{one, c.words[i], n})
		n++
	}
	p.added.Store(n)
	if len(p.pending) == 0 {
		p.issued.Store(n)
	}
}

// Added returns how many commands were added so far.
func (p *Player) Added() uint64 { return p.added.Load() }

// Issued returns how many of the first added commands were given to CUDA, all without a gap: what was added is, when
// Issued comes to what Added was then. A Wait counts when it is over, a Write when its event is recorded.
func (p *Player) Issued() uint64 { return p.issued.Load() }

// Idle reports whether all that was added was issued and every Write stored.
func (p *Player) Idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pending) == 0 && len(p.writes) == 0
}

// Advance does what has become possible, without waiting, and reports whether that was anything. After an error it does
// nothing more and returns that error again.
//
// Implements: cudaEventQuery, cudaEventRecord.
func (p *Player) Advance() (moved bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return false, p.broken
	}
	if p.closed {
		return false, invalidf("the player is closed")
	}
	stored, err := p.store()
	if err == nil {
		var issued bool
		issued, err = p.issue()
		moved = stored || issued
	}
	p.broken = err
	return moved, err
}

// store stores the values of the writes whose events are done. The events are asked from the last to the first: where
// one write is behind another, that is then not seen as not done after this one was seen as done.
func (p *Player) store() (moved bool, err error) {
	for i := len(p.writes) - 1; i >= 0; i-- {
		w := &p.writes[i]
		if w.done, err = p.on.QueryEvent(w.event); err != nil {
			return false, err
		}
	}
	left := p.writes[:0]
	for _, w := range p.writes {
		if !w.done {
			left = append(left, w)
			continue
		}
		atomic.StoreUint32(w.word, w.value)
		p.spare = append(p.spare, w.event)
	}
	moved = len(left) < len(p.writes)
	clear(p.writes[len(left):])
	p.writes = left
	return moved, nil
}

// issue gives CUDA the commands that nothing holds.
func (p *Player) issue() (moved bool, err error) {
	p.batch, p.batched = p.batch[:0], p.batched[:0]
	p.held.streams, p.held.events = p.held.streams[:0], p.held.events[:0]
	left := p.pending[:0]
	for i := range p.pending {
		c := p.pending[i]
		if err == nil && p.free(&c) {
			err = p.stage(&c)
			if err == nil {
				continue
			}
		}
		p.held.hold(&c.command)
		left = append(left, c)
	}
	moved = len(left) < len(p.pending)
	clear(p.pending[len(left):])
	p.pending = left
	if give := p.flush(); err == nil {
		err = give
	}
	if err != nil {
		return false, err
	}
	first := p.added.Load()
	if len(left) > 0 {
		first = left[0].number
	}
	p.issued.Store(first)
	return moved, nil
}

// free reports whether a command can be issued: nothing before it on its stream or about its event is held, and what it
// waits for is there.
func (p *Player) free(c *played) bool {
	if p.held.holds(&c.command) {
		return false
	}
	return c.op != opWait || reached(atomic.LoadUint32(c.word), c.value)
}

// stage puts a command into the batch for CUDA.
func (p *Player) stage(c *played) error {
	switch c.op {
	case opWait:
		return nil // it is over
	case opWrite:
		e, err := p.event()
		if err != nil {
			return err
		}
		p.batch = append(p.batch, command{op: opRecord, stream: c.stream, dst: Ptr(e)})
		p.batched = append(p.batched, written{event: e, word: c.word, value: c.value})
	default:
		p.batch = append(p.batch, c.command)
		p.batched = append(p.batched, written{})
	}
	return nil
}

// flush gives the batch to CUDA.
func (p *Player) flush() error {
	if len(p.batch) == 0 {
		return nil
	}
	done, err := p.on.give(p.batch, 0)
	for i, w := range p.batched {
		switch {
		case w.event == 0:
		case i < done:
			p.writes = append(p.writes, w)
		default:
			p.spare = append(p.spare, w.event)
		}
	}
	clear(p.batched)
	return err
}

// event returns an event that no write has.
func (p *Player) event() (Event, error) {
	if n := len(p.spare); n > 0 {
		e := p.spare[n-1]
		p.spare = p.spare[:n-1]
		return e, nil
	}
	return p.on.NewEvent(false)
}

// Close gives the player's events back. Values that are not stored yet never are, and commands that are not issued never
// are; what CUDA was given goes on. A second Close does nothing.
func (p *Player) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var err error
	for _, w := range p.writes {
		err = errors.Join(err, p.on.DestroyEvent(w.event))
	}
	for _, e := range p.spare {
		err = errors.Join(err, p.on.DestroyEvent(e))
	}
	p.pending, p.writes, p.spare = nil, nil, nil
	return err
}

// hold holds a command's stream and event.
func (h *held) hold(c *command) {
	if !h.holds(&command{stream: c.stream}) {
		h.streams = append(h.streams, c.stream)
	}
	if c.op == opRecord || c.op == opWaitEvent {
		h.events = append(h.events, Event(c.dst))
	}
}

// holds reports whether a command must wait.
func (h *held) holds(c *command) bool {
	for _, s := range h.streams {
		if s == c.stream {
			return true
		}
	}
	if c.op != opRecord && c.op != opWaitEvent {
		return false
	}
	for _, e := range h.events {
		if e == Event(c.dst) {
			return true
		}
	}
	return false
}
