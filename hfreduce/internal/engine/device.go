// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"sync/atomic"
	"time"
	"unsafe"
)

// A rank's data may lie in the memory of a device (a GPU), whose copy engines fill and drain the slots. All copies of a
// collective are given to the device when it is called, with waits and flags between them, so that it and this engine meet
// in words of the segment and neither calls the other:
//
//	device   wait until open >= n, copy the input of item n into its slot, copied = n
//	engine   copied >= n: tell the node's ranks; reduce, send, receive; all shards of n are there: result = n
//	device   wait until result >= n, copy the result of item n out of its slot, drained = n
//	engine   drained >= n: this rank is through with item n
//
// An item whose result is there, and that only the device is not through with, is settled: the collective is, when all of
// its items are. The next collective then begins while the device still drains the last slots of the one before.
//
// For small reductions the device fills and drains areas of their own, which are numbered by themselves (Op.Bounce).

// bounceAreas is how many small reductions of a device can be under way.
const bounceAreas = 8

// DeviceFlag names one of the words.
type DeviceFlag int

// The words: what the device writes, then what it waits for.
const (
	Copied DeviceFlag = iota // items up to this one lie in their slots
	Drained
	BounceCopied // the same for small reductions
	BounceDrained
	Open       // items up to this one may be copied into their slots
	Result     // results up to this item lie in their slots
	BounceOpen // the same for small reductions
	BounceResult
)

// deviceLines are the words of one rank: the two sides write to lines of their own.
type deviceLines struct {
	device [4]uint32
	_      [line - 16]byte
	engine [4]uint32
	_      [line - 16]byte
}

func (m *memory) deviceLines(local int) *deviceLines {
	return (*deviceLines)(unsafe.Pointer(&m.base[m.device+int64(local)*2*line]))
}

// deviceWord returns what the device of a local rank writes.
func (m *memory) deviceWord(local int, f DeviceFlag) *uint32 { return &m.deviceLines(local).device[f] }

// device is what an engine knows of its device.
type device struct {
	flags      *deviceLines
	released   [2]atomic.Bool // by direction: what the device waits for before it drains, and before it fills
	adapters   atomic.Bool    // links read the slots by themselves: until they are closed, and not only when they are polled
	runs       []Run          // scratch
	given      uint32         // all ranks of the node have given what they give to items up to this one
	slowest    int            // the local rank that had not given the next one
	ahead      uint32         // how many items the device fills ahead of given
	groups     groups         // that the collective at hand still has
	together   uint32         // the last item of the group that was begun last
	opened     uint32         // what Open is
	aheadBytes int64          // aheadBytes, but for tests
	bounced    uint32         // the last small reduction that this rank has settled
	seen       uint32         // the last one that the device was seen to have drained
	clock      phaseClock
}

func newDevice(m *memory, local int) *device {
	if !m.devices {
		return nil
	}
	d := &device{flags: m.deviceLines(local), aheadBytes: aheadBytes}
	atomic.StoreUint32(d.word(BounceOpen), bounceAreas)
	return d
}

// word returns a word as this process sees it.
func (d *device) word(f DeviceFlag) *uint32 {
	if f >= Open {
		return &d.flags.engine[f-Open]
	}
	return &d.flags.device[f]
}

// reached reports whether the device has passed a number.
func (d *device) reached(f DeviceFlag, n uint32) bool {
	return !before(atomic.LoadUint32(d.word(f)), n)
}

// staleBy is how far Result may stay behind the numbers: device and release compare with it, and wrap.
const staleBy = 1 << 29

// follow brings Result near the number of the next item, where the device has drained nothing for very long. The results of all
// items before that one are there.
func (d *device) follow(next uint32) {
	if next-atomic.LoadUint32(d.word(Result)) > staleBy {
		d.raise(Result, next-1)
	}
}

// beginTransfers notes what the device has to do for an item.
func (e *Engine) beginTransfers(it *item) {
	d, op := e.device, e.op
	if !op.Filled && !op.Drained {
		return
	}
	if at := d.groups.seq + d.groups.next; at == it.seq {
		g := d.groups.peek()
		d.groups.next += g.items
		d.together = it.seq + g.items - 1
	}
	it.together = d.together
	t := e.Transfers()
	r := Route{Plan: op.Plan, Elem: op.Spec.DType.Size(), In: op.In, Out: op.Out, SkipOwnBlock: op.SkipOwnBlock}
	if op.Filled {
		d.runs = t.Fills(d.runs[:0], &r, it.cut, it.seq)
		if it.filling = len(d.runs) > 0; it.filling {
			d.clock.enter(PhaseFill)
			d.clock.counters.FilledBytes.Add(uint64(total(d.runs)))
		}
		if n := len(d.runs); n == 1 && it.flow.Up && d.runs[0].Bytes == it.bytes {
			it.src = e.mem.input(it.slot, e.local)[:it.bytes:it.bytes]
		}
	}
	if op.Drained {
		d.runs = t.Drains(d.runs[:0], &r, it.cut, it.seq)
		it.draining = len(d.runs) > 0
		d.clock.counters.DrainedBytes.Add(uint64(total(d.runs)))
		it.out = !it.draining
	}
}

// total returns the bytes of several runs.
func total(runs []Run) (bytes int64) {
	for i := range runs {
		bytes += runs[i].Total()
	}
	return bytes
}

// stepTransfers follows the device through an item.
func (e *Engine) stepTransfers(it *item) (moved bool) {
	d := e.device
	if it.filling && d.reached(Copied, it.seq) {
		it.filling, moved = false, true
		d.clock.leave(PhaseFill)
		e.sumFilled(it)
		e.announce(it)
	}
	if it.draining && before(it.seq, e.opened) && d.reached(Drained, it.seq) {
		it.draining, it.out, moved = false, true, true
		d.clock.leave(PhaseDrain)
	}
	return moved
}

// workDevice takes what the device has finished of collectives that are settled.
func (e *Engine) workDevice() (moved bool, err error) {
	if e.cfg.Pump != nil {
		if moved, err = e.cfg.Pump(); err != nil {
			return moved, err
		}
	}
	for seq := e.head; seq != e.settled; seq++ {
		moved = e.stepTransfers(&e.ring[seq%uint32(e.mem.slots)]) || moved
	}
	if e.head != e.settled {
		moved = e.retire() || moved
	}
	return e.drainBounces() || moved, nil
}

// openResults lets the device have the results that are there. It takes them in order.
func (e *Engine) openResults() (moved bool, err error) {
	for ; e.opened != e.next; e.opened++ {
		it := &e.ring[e.opened%uint32(e.mem.slots)]
		if !it.draining {
			continue
		}
		if there, err := e.arrived(it); !there {
			return moved, err
		}
		if err := e.checkResults(it); err != nil {
			return moved, err
		}
		e.begins(StageOutput)
		e.device.clock.enter(PhaseDrain)
		e.device.raise(Result, it.seq)
		moved = true
	}
	return moved, nil
}

// settle passes the items of which only the device has something left to do.
func (e *Engine) settle() {
	for ; e.settled != e.next; e.settled++ {
		it := &e.ring[e.settled%uint32(e.mem.slots)]
		if it.filling || it.left > 0 || !it.out && !(it.draining && before(it.seq, e.opened)) {
			return
		}
	}
}

// bounceReady reports whether the device has filled the input area of the small reduction at hand, and drained the output
// area that is used again.
func (e *Engine) bounceReady() bool {
	n := e.op.Bounce
	return n == 0 || e.device.reached(BounceCopied, n) && e.device.reached(BounceDrained, n-bounceAreas)
}

// settleBounce lets the device have the result of a small reduction, and the areas be used again.
func (e *Engine) settleBounce(n uint32) {
	if n == 0 {
		return
	}
	e.device.bounced = n
	if e.op.Filled {
		e.device.clock.counters.FilledBytes.Add(uint64(e.op.Bytes))
	}
	if e.op.Drained {
		e.device.clock.counters.DrainedBytes.Add(uint64(e.op.Bytes))
	}
	e.device.raise(BounceResult, n)
	e.device.raise(BounceOpen, n+bounceAreas)
}

// drainBounces notes how far the device is with the small reductions.
func (e *Engine) drainBounces() (moved bool) {
	d := e.device
	if d.seen == d.bounced {
		return false
	}
	seen := atomic.LoadUint32(d.word(BounceDrained))
	if seen == d.seen || before(d.bounced, seen) {
		return false
	}
	d.seen = seen
	e.cfg.OnDrain()
	return true
}

// Through returns the number of the last item, and of the last small reduction, that this rank's device is through with.
func (e *Engine) Through() (item, bounce uint32) { return e.head - 1, e.device.seen }

// Draining reports whether the device has something left to do for collectives that are settled.
func (e *Engine) Draining() bool {
	return e.device != nil && (e.head != e.settled || e.device.seen != e.device.bounced)
}

// Drain follows the device until it is through with everything, or quit says that there is something else to do.
func (e *Engine) Drain(quit func() bool) error {
	err := e.drive(context.Background(), func() bool { return !e.Draining() || quit() })
	if err != nil {
		e.Break(err)
		return *e.cause.Load()
	}
	return nil
}

// The device rings no bell: a rank that waits for it looks at its words every so often, the more seldom the longer it has
// waited.
const (
	minDeviceNap = 20 * time.Microsecond
	maxDeviceNap = 200 * time.Microsecond
	napShare     = 16 // of the time waited
)

// awaitsDevice reports whether the device may be what this rank waits for.
func (e *Engine) awaitsDevice() bool {
	if e.device == nil {
		return false
	}
	if e.Draining() || e.short.pending {
		return true
	}
	for seq := e.head; seq != e.next; seq++ {
		if it := &e.ring[seq%uint32(e.mem.slots)]; it.filling || it.draining {
			return true
		}
	}
	return false
}

// deviceBehind reports whether the oldest thing under way waits for this rank's device.
func (e *Engine) deviceBehind() bool {
	switch {
	case e.device == nil:
		return false
	case e.short.open:
		return e.short.pending
	}
	it := &e.ring[e.head%uint32(e.mem.slots)]
	return e.head != e.next && (it.filling && e.device.reached(Open, it.together) || it.draining && before(it.together, e.opened))
}

// nap bounds a sleep by when to look at the device's words again.
func nap(timeout, waited time.Duration) time.Duration {
	n := min(max(waited/napShare, minDeviceNap), maxDeviceNap)
	if timeout > 0 {
		return min(n, timeout)
	}
	return n
}

// Phases returns the counters of what the device takes part in, nil where there is none.
func (e *Engine) Phases() *PhaseCounters {
	if e.device == nil {
		return nil
	}
	return &e.device.clock.counters
}

// enterReduce and leaveReduce enclose an addition.
func (e *Engine) enterReduce() {
	if e.device != nil && (e.op.Filled || e.op.Drained) {
		e.device.clock.enter(PhaseReduce)
	}
}

func (e *Engine) leaveReduce() {
	if e.device != nil && (e.op.Filled || e.op.Drained) {
		e.device.clock.leave(PhaseReduce)
	}
}

// enterNetwork and leaveNetwork follow the own shards of an item.
func (e *Engine) enterNetwork(it *item) {
	if e.device != nil && (e.op.Filled || e.op.Drained) && len(e.cfg.Layout.Nodes) > 1 {
		it.travelling++
		e.device.clock.enter(PhaseNetwork)
	}
}

func (e *Engine) leaveNetwork(it *item) {
	if it.travelling > 0 {
		it.travelling--
		e.device.clock.leave(PhaseNetwork)
	}
}
