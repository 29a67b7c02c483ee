// SPDX-License-Identifier: Apache-2.0

package engine

import "sync/atomic"

// This file says how far a device may fill. A slot that is free is not enough: ranks may share what copies, the engine of one
// GPU or the switch above several, and it need not serve them in turns. A device that filled all its slots first would keep the
// others from the very item that all of them wait for, so that copies to the host, additions and copies back hardly overlap. So
// devices fill a few items ahead of what all ranks of the node have given (docs/performance.md). An item then waits for earlier
// ones only, as it does for its slot, so that nothing can wait in a circle.

const (
	// minAhead is how many items a device fills ahead at least: one is being copied while the ranks learn of the other.
	minAhead = 2
	// aheadBytes is what it fills ahead if more items are needed for that: what the fastest link carries in the time that
	// ranks need to learn of each other's items, and to let their devices go on, some tens of microseconds.
	aheadBytes = 3 << 20
	// aheadLook is how far ahead of an item a rank's words may be to count: stale ones of a rank without a device seem to be
	// ahead once numbers have wrapped.
	aheadLook = 1 << 16
)

// aheadOf returns how many items of a size the device fills ahead, of which it is given so many together at most.
func (e *Engine) aheadOf(chunk int64, most uint32) uint32 {
	if e.localSize == 1 {
		return uint32(e.mem.slots)
	}
	return uint32(min(max(minAhead, int64(most), (e.device.aheadBytes+chunk-1)/max(1, chunk)), int64(e.mem.slots)))
}

// openFills lets the device fill the slots that are free and not too far ahead.
func (e *Engine) openFills() {
	d := e.device
	through := e.mem.through()
	limit := through + uint32(e.mem.slots)
	if before(d.given, through) {
		d.given = through
	}
	for before(d.given, limit) && e.given(d.given+1) {
		d.given++
	}
	if ahead := d.given + d.ahead; before(ahead, limit) {
		limit = ahead
	}
	if before(d.opened, limit) {
		d.opened = limit
		d.raise(Open, limit)
	}
}

// given reports whether all ranks of the node have given what they give to an item. It begins with the rank that was not
// ready the last time.
func (e *Engine) given(seq uint32) bool {
	for range e.localSize {
		if !e.mem.gave(e.device.slowest, seq) {
			return false
		}
		e.device.slowest = (e.device.slowest + 1) % e.localSize
	}
	return true
}

// gave reports whether a local rank has given its part of an item: it says so, or its device does, which it may not have
// noticed yet.
func (m *memory) gave(local int, seq uint32) bool {
	ready := &m.readyLine(int(seq%uint32(m.slots)), local).seq
	return atomic.LoadUint32(ready)-seq < aheadLook || atomic.LoadUint32(m.deviceWord(local, Copied))-seq < aheadLook
}

// tend follows the device while this rank adds: an addition may take as long as a copy, and what has been copied meanwhile
// has to be made known, and what has arrived to be copied back.
func (e *Engine) tend() error {
	if _, err := e.workDevice(); err != nil {
		return err
	}
	for seq := e.settled; seq != e.next; seq++ {
		e.stepTransfers(&e.ring[seq%uint32(e.mem.slots)])
	}
	if _, err := e.openResults(); err != nil {
		return err
	}
	e.openFills()
	return nil
}
