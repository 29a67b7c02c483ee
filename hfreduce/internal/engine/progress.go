// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"sync/atomic"
	"time"
)

// Run executes op and returns when this rank's part is through: the result is in op.Dst, nobody reads op.Src any more. Of
// an op with a device all but the device's last copies is through; Drain follows those, as the next Run does.
// After an error the engine is broken and returns that error from then on.
func (e *Engine) Run(ctx context.Context, op *Op) error {
	e.start(op)
	err := e.drive(ctx, e.finished)
	if err == nil {
		err = e.Sound()
	}
	if err != nil {
		e.op = nil
		e.Break(err)
		if e.device != nil && !e.device.adapters.Load() {
			e.maySend(false)
		}
		return *e.cause.Load()
	}
	e.maySend(false)
	e.leaves()
	e.op = nil
	return nil
}

// start makes op the collective that is driven.
func (e *Engine) start(op *Op) {
	e.op = op
	e.streamSums, e.streamCopies = op.streams()
	if e.device != nil {
		e.device.follow(e.next)
		e.maySend(true)
	}
	if e.takesShort(op) {
		e.openShort(op)
		return
	}
	chunk := e.mem.chunk
	if op.Chunk > 0 {
		chunk = min(chunk, op.Chunk)
	}
	if e.device != nil {
		e.device.groups = e.mem.groupsOf(e.next, uint32(op.Plan.ItemCount(chunk)))
		e.device.ahead = e.aheadOf(chunk, e.device.groups.most)
	}
	e.cursor = op.Plan.Items(chunk)
	e.cut, e.more = e.cursor.Next()
}

// drive alternates between working and waiting until done.
func (e *Engine) drive(ctx context.Context, done func() bool) error {
	var watch watch
	defer watch.stop()
	e.backoff.Reset()
	for {
		moved, err := e.advance(false)
		switch {
		case err != nil:
			return err
		case done():
			return nil
		case moved:
			e.backoff.Reset()
			watch.moved = true
			continue
		}
		if e.backoff.Idle() {
			if err := e.sleep(ctx, &watch, done); err != nil {
				return err
			}
		}
	}
}

// watch keeps what long waits need.
type watch struct {
	moved   bool      // since the last deadline was set
	since   time.Time // when this rank was first found waiting after something had moved
	noticed bool
	looked  time.Time // at the links' health
	cancel  func() bool
}

func (w *watch) stop() {
	if w.cancel != nil {
		w.cancel()
	}
}

// waited returns for how long nothing has moved.
func (w *watch) waited() time.Duration {
	if w.moved || w.since.IsZero() {
		w.since, w.moved = time.Now(), false
	}
	return time.Since(w.since)
}

// left returns how long the rank may sleep, 0 for without bound, and whether it has waited too long.
func (w *watch) left(cfg *Config) (timeout time.Duration, stalled bool) {
	if cfg.Timeout == 0 && cfg.Notice == 0 {
		return 0, false
	}
	now := time.Now()
	if w.moved || w.since.IsZero() {
		w.since, w.moved = now, false
	}
	waited := now.Sub(w.since)
	if cfg.Timeout > 0 {
		if timeout = cfg.Timeout - waited; timeout <= 0 {
			return 0, true
		}
	}
	if cfg.Notice == 0 || w.noticed {
		return timeout, false
	}
	if waited >= cfg.Notice {
		w.noticed = true
		cfg.OnNotice()
		return timeout, false
	}
	if notice := cfg.Notice - waited; timeout == 0 || notice < timeout {
		timeout = notice
	}
	return timeout, false
}

// sleep waits for a ring, once a last look has found nothing to do.
func (e *Engine) sleep(ctx context.Context, w *watch, done func() bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	bell := e.cfg.Bells[e.local]
	if w.cancel == nil && ctx.Done() != nil {
		w.cancel = context.AfterFunc(ctx, bell.Ring)
	}
	timeout, stalled := w.left(&e.cfg)
	if stalled && (e.op != nil || e.Draining()) {
		return e.stalled()
	}
	if e.awaitsDevice() {
		timeout = nap(timeout, w.waited())
	}
	bell.Arm()
	moved, err := e.advance(true)
	if err != nil || moved || done() || ctx.Err() != nil {
		bell.Disarm()
		w.moved = w.moved || moved
		return err
	}
	if timeout, err = e.lookAtLinks(w, timeout); err != nil {
		bell.Disarm()
		return err
	}
	bell.Sleep(timeout)
	return nil
}

// finished reports whether this rank's part of the op is through.
func (e *Engine) finished() bool {
	if e.more || e.short.open || e.settled != e.next {
		return false
	}
	// Others may still read what this rank shares in place. The head may be behind, at what a device drains for earlier ones.
	return e.op.SrcShare == NotShared || !before(e.mem.through(), e.next-1)
}

// advance does whatever can be done now and reports whether anything was. The links come last, so that what is granted
// travels with the messages of this turn instead of by itself. thorough is a look before a sleep: at all links, and once
// more at the work, since a poll that brings no event can still have brought a grant.
func (e *Engine) advance(thorough bool) (moved bool, err error) {
	if moved, err = e.work(); err != nil || len(e.open) == 0 || e.op != nil && e.finished() {
		return moved, err
	}
	if e.device != nil { // what was posted leaves now, and items that went may have held this rank up
		if err := e.Sound(); err != nil {
			return moved, err
		}
	}
	m, err := e.poll(thorough)
	if moved = moved || m; moved || err != nil || !thorough {
		return moved, err
	}
	return e.work()
}

// work takes the collective as far as it goes without news from the links.
func (e *Engine) work() (moved bool, err error) {
	if a := e.attention.Load(); a != 0 {
		if err := e.attend(a); err != nil {
			return false, err
		}
	}
	e.grant()
	if e.device != nil {
		if moved, err = e.workDevice(); err != nil {
			return moved, err
		}
		if err := e.Sound(); err != nil { // after it, which may have held this rank up
			return moved, err
		}
	}
	if e.short.open {
		m, err := e.advanceShort()
		if e.device != nil {
			e.openFills()
		}
		return m || moved, err
	}
	for e.more && e.next-e.head < uint32(e.mem.slots) && before(e.next, e.limit) {
		it := &e.ring[e.next%uint32(e.mem.slots)]
		e.begin(it, e.cut, e.next)
		e.next++
		e.stage(it)
		e.cut, e.more = e.cursor.Next()
		moved = true
		if e.localSize > 1 {
			break // what was staged is to be added while it is in the cache; a rank that stages nothing sends all it may
		}
	}
	for seq := e.settled; seq != e.next; seq++ {
		m, err := e.step(&e.ring[seq%uint32(e.mem.slots)])
		if err != nil {
			return false, err
		}
		moved = moved || m
	}
	if e.device != nil {
		m, err := e.openResults()
		if moved = moved || m; err != nil {
			return moved, err
		}
		e.settle()
		e.openFills()
	}
	return e.retire() || moved, nil
}

// grant tells the peers which items have a free slot here.
func (e *Engine) grant() {
	limit := e.mem.through() + uint32(e.mem.slots) + 1
	if limit == e.limit {
		return
	}
	e.limit = limit
	for _, l := range e.open {
		l.Grant(limit)
	}
}

// step takes an item as far as it goes.
func (e *Engine) step(it *item) (bool, error) {
	moved, left := false, 0
	for i := range it.own {
		s := &it.own[i]
		if s.Complete() {
			continue
		}
		m, err := e.stepShard(it, e.ownShard(i), s)
		if err != nil {
			return false, err
		}
		moved = moved || m
		if !s.Complete() {
			left++
			continue
		}
		e.leaveNetwork(it)
	}
	it.left = left
	if e.device != nil {
		moved = e.stepTransfers(it) || moved
	}
	if !it.out && !it.draining {
		out, err := e.copyOut(it)
		if err != nil {
			return false, err
		}
		it.out, moved = out, moved || out
	}
	return moved, nil
}

// stepShard feeds one shard's state machine and takes the actions that it asks for.
func (e *Engine) stepShard(it *item, shard int, s *Shard) (bool, error) {
	if err := e.receive(it, shard, s); err != nil {
		return false, err
	}
	if s.NeedsInputs() {
		ready, err := e.staged(it)
		if err != nil {
			return false, err
		}
		if ready {
			if err := e.checkGiven(it, shard); err != nil {
				return false, err
			}
			s.InputsReady()
			e.enterNetwork(it)
			if err := e.mapArenas(it); err != nil {
				return false, err
			}
			it.spread = e.spreads(it)
		}
	}
	for moved := false; ; moved = true {
		err := error(nil)
		switch s.Next(e.granted(it, shard)) {
		case Wait:
			return moved, nil
		case Reduce:
			e.begins(StageReduce)
			e.enterReduce()
			if err = e.reduce(it, shard); err == nil {
				err = e.Sound()
			}
			e.leaveReduce()
		case PostUp:
			err = e.post(it, shard, Parent)
		case PostDown0:
			err = e.post(it, shard, Child0)
		case PostDown1:
			err = e.post(it, shard, Child1)
		case Combine:
			e.begins(StageReduce)
			e.enterReduce()
			err = e.combine(it, shard)
			e.leaveReduce()
		case Publish:
			e.publish(it, shard)
		}
		if err != nil {
			return moved, err
		}
	}
}

// mapArenas maps the arenas in which inputs of the item lie, and where its results are wanted.
func (e *Engine) mapArenas(it *item) error {
	for l := range e.localSize {
		ready := e.mem.readyLine(it.slot, l)
		if it.flow.Up && l != e.local && (ready.share != notShare || ready.out != notShare) {
			if err := e.arena(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// retire lets go of the items at the head of the ring that this rank is through with.
func (e *Engine) retire() bool {
	head := e.head
	for e.head != e.next {
		it := &e.ring[e.head%uint32(e.mem.slots)]
		if it.filling || it.left > 0 || !it.out {
			break
		}
		e.head++
	}
	if e.head == head {
		return false
	}
	if before(e.settled, e.head) {
		e.settled = e.head
	}
	if before(e.opened, e.head) {
		e.opened = e.head
	}
	atomic.StoreUint32(e.mem.doneWord(e.local), e.head-1)
	e.ringNode()
	if e.device != nil {
		e.cfg.OnDrain()
	}
	return true
}

// ringNode wakes the node's other ranks that sleep.
func (e *Engine) ringNode() {
	for l, b := range e.cfg.Bells {
		if l != e.local {
			b.Ring()
		}
	}
}
