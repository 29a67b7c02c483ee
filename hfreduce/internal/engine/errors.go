// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrStalled is wrapped by what Run returns when nothing has moved for Config.Timeout.
var ErrStalled = errors.New("engine: no progress")

// MismatchError says that another rank makes a different call.
type MismatchError struct {
	Rank int // the other rank
}

// Error returns one line.
func (m *MismatchError) Error() string {
	return fmt.Sprintf("engine: rank %d makes a different call", m.Rank)
}

// LinkError says that the link to a rank failed. Unwrap gives the transport's error.
type LinkError struct {
	Rank int
	Err  error
}

// Error returns one line.
func (l *LinkError) Error() string { return fmt.Sprintf("engine: link to rank %d: %v", l.Rank, l.Err) }

// Unwrap returns the transport's error.
func (l *LinkError) Unwrap() error { return l.Err }

// StallError says whom this rank was waiting for when nothing moved any more. It wraps ErrStalled.
type StallError struct {
	Needs  []Need // one for each rank; empty when only this rank is behind
	Device bool   // this rank waits for its own device
}

// Error returns one line.
func (s *StallError) Error() string {
	return fmt.Sprintf("%v, waiting for %v", ErrStalled, s.Needs)
}

// Unwrap returns ErrStalled.
func (s *StallError) Unwrap() error { return ErrStalled }

// stalled returns whom the oldest unfinished item, or the item that finds no slot, waits for.
func (e *Engine) stalled() *StallError {
	err := &StallError{Device: e.deviceBehind()}
	seen := make([]bool, len(e.links))
	add := func(rank int, reason Reason) {
		if rank != e.cfg.Rank && !seen[rank] {
			seen[rank] = true
			err.Needs = append(err.Needs, Need{rank, reason})
		}
	}
	if e.short.open {
		e.stalledShort(add)
		return err
	}
	mates := e.cfg.Layout.Nodes[e.node]
	if e.head == e.next {
		for l, rank := range mates {
			if before(atomic.LoadUint32(e.mem.doneWord(l)), e.head-1) {
				add(rank, ForSlot)
			}
		}
		return err
	}
	it := &e.ring[e.head%uint32(e.mem.slots)]
	if e.stalledFill(it, add); len(err.Needs) > 0 {
		return err
	}
	for i := range it.own {
		e.stalledShard(it, e.ownShard(i), &it.own[i], add)
	}
	for s := range it.shards {
		if !it.out && atomic.LoadUint32(&e.mem.reducedLine(it.slot, s).seq) != it.seq {
			add(mates[s%e.localSize], ForShare)
		}
	}
	for l, rank := range mates {
		if !it.out && !it.flow.Up && atomic.LoadUint32(&e.mem.readyLine(it.slot, l).seq) != it.seq {
			add(rank, ForInput)
		}
	}
	return err
}

// stalledFill adds the ranks that keep the own device from filling an item, with all that it is given together with: it needs
// slots that they are not through with, or is too far ahead of what they have given. Whose inputs are missing says little then, as
// all devices of the node may be kept from them.
func (e *Engine) stalledFill(it *item, add func(rank int, reason Reason)) {
	if !it.filling || e.device.reached(Open, it.together) {
		return
	}
	slots, ahead := it.together-uint32(e.mem.slots), it.together-e.device.ahead
	for l, rank := range e.cfg.Layout.Nodes[e.node] {
		if done := atomic.LoadUint32(e.mem.doneWord(l)); before(done, slots) {
			add(rank, ForSlot)
		} else if before(done, ahead) && !e.mem.gave(l, ahead) {
			add(rank, ForInput)
		}
	}
}

// stalledShard adds the ranks that an own shard waits for.
func (e *Engine) stalledShard(it *item, shard int, s *Shard, add func(rank int, reason Reason)) {
	if s.Complete() {
		return
	}
	for l, rank := range e.cfg.Layout.Nodes[e.node] {
		if s.NeedsInputs() && atomic.LoadUint32(&e.mem.readyLine(it.slot, l).seq) != it.seq {
			add(rank, ForInput)
		}
	}
	for n := Child0; n <= Parent; n++ {
		if s.Expects(n) && s.arrived&(1<<n) == 0 {
			reason := ForPartial
			if n == Parent {
				reason = ForResult
			}
			add(e.peer(it.neighbour(n), shard), reason)
		}
	}
	for n := Child0; n <= Parent; n++ {
		if (s.posted&^s.sent)&(1<<n) != 0 {
			add(e.peer(it.neighbour(n), shard), ForRoom)
		}
	}
}
