// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/hostmem"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// Comm is one rank's end of a group of ranks. Its methods may be called from several goroutines; collectives run one
// after the other, in the order of the calls, which must be the same on all ranks.
//
// States: ready ──Close──▶ closed; ready ──any fault or Abort──▶ broken (the first cause is kept) ──Close──▶ closed.
type Comm struct {
	fabric   *sharedFabric
	opts     Options
	log      *slog.Logger
	uid      string
	salt     uint64 // of fingerprints: the UID's hash
	members  []int  // world ranks, by rank
	rank     int
	layout   schedule.Layout
	exchange schedule.Exchange
	pipeline pipeline
	segment  *hostmem.Segment
	engine   *engine.Engine
	bell     wait.Bell // this rank's
	deaf     func()    // ends the fabric's verdicts

	life  context.Context // ends when the Comm breaks or closes
	end   context.CancelCauseFunc
	cause atomic.Pointer[error] // why the Comm is broken

	reported atomic.Bool                     // a fault, whose verdict is awaited
	orphaned atomic.Pointer[verdict]         // the notice that the rank that judges is lost, until there is another one
	stuck    atomic.Pointer[engine.Position] // where this rank stands when no engine runs that could say so
	verdict  atomic.Pointer[verdict]         // why the Comm is broken, as the other ranks hear it

	telling  sync.Mutex // from breaking the Comm until the other ranks are told: Close comes after it
	breaking sync.Mutex // between breaking the engine and taking its memory away
	released bool

	queue    queue
	sealed   bool // no collective runs any more; the queue's
	devices  devices
	journal  journal
	call     call      // the running collective
	op       engine.Op // the same for the engine
	linked   map[planKey]bool
	extremes extremes
	splits   atomic.Uint64
	tests    atomic.Uint64 // of links
	closed   atomic.Bool

	shrinking atomic.Bool // Shrink runs, or has made a Comm

	crossing sync.Once // the warning of it

	stats        counters
	memories     memories
	registered   registrations
	segmentBytes int64
}

// planKey names the plans that talk to the same ranks.
type planKey struct {
	collective  schedule.Collective
	root, flows int
	exchange    bool
}

// Rank returns this rank's number in the communicator, 0..WorldSize()-1.
func (c *Comm) Rank() int { return c.rank }

// WorldSize returns the number of ranks.
func (c *Comm) WorldSize() int { return len(c.members) }

// LocalRank returns this rank's number among the ranks of its node.
func (c *Comm) LocalRank() int { return c.layout.LocalRank(c.rank) }

// LocalSize returns the number of ranks on this rank's node.
func (c *Comm) LocalSize() int { return len(c.layout.Nodes[c.Node()]) }

// Node returns the number of this rank's node, 0..Nodes()-1.
func (c *Comm) Node() int { return c.layout.NodeOf(c.rank) }

// Nodes returns the number of nodes.
func (c *Comm) Nodes() int { return len(c.layout.Nodes) }

// RankInfo describes a rank.
type RankInfo struct {
	Rank      int    // in the communicator
	Node      int    // number of its node
	LocalRank int    // its number on that node
	Host      string // host name
	PID       int
	Machine   string // ranks with equal Machine share processors, also as different nodes (containers, virtual nodes)
}

// Ranks describes all ranks, in rank order.
func (c *Comm) Ranks() []RankInfo {
	infos := make([]RankInfo, len(c.members))
	for r, world := range c.members {
		infos[r], _ = c.fabric.info(world)
		infos[r].Rank, infos[r].Node, infos[r].LocalRank = r, c.layout.NodeOf(r), c.layout.LocalRank(r)
	}
	return infos
}

// rankOf returns the rank of a world rank, -1 if it is not a member.
func (c *Comm) rankOf(world int) int { return slices.Index(c.members, world) }

// usable returns why no collective can be started, or nil.
func (c *Comm) usable() error {
	if c.closed.Load() {
		return ErrClosed
	}
	if cause := c.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// breakWith makes the running and all later calls of this rank fail. The first cause stays; it reports whether this is
// the one. v is the same for ranks that ask.
func (c *Comm) breakWith(v verdict, cause error) bool {
	if !c.cause.CompareAndSwap(nil, &cause) {
		return false
	}
	c.verdict.Store(&v)
	c.end(cause)
	c.breaking.Lock()
	if !c.released {
		c.engine.Break(cause)
		c.engine.ReleaseDevice()
	}
	c.breaking.Unlock()
	c.log.Warn("communicator is broken", "rank", c.rank, "cause", cause)
	c.sever()
	return true
}

// sever closes the links of a broken Comm, unless a collective runs, which does so when it ends: whoever hears nothing over the
// control channel, because the rank that judges is stopped, hears it from its neighbours.
func (c *Comm) sever() {
	if !c.queue.enter() {
		return
	}
	defer c.queue.leave(c)
	c.breaking.Lock()
	defer c.breaking.Unlock()
	if !c.released {
		c.closeLinks()
	}
}

// closeLinks closes the links for good. No collective may run but the caller's.
func (c *Comm) closeLinks() {
	if err := c.engine.CloseLinks(); err != nil {
		c.log.Debug("links after a fault", "rank", c.rank, "error", err)
	}
}

// fail breaks the Comm here at once, and on every other rank: for what needs no judge.
func (c *Comm) fail(v verdict, cause error) {
	v.Text = clipped(v.Text)
	c.breakAndTell(v, cause)
}

// breakAndTell breaks the Comm here and then, unless it is broken already, on every other rank.
func (c *Comm) breakAndTell(v verdict, cause error) {
	c.telling.Lock()
	defer c.telling.Unlock()
	if c.breakWith(v, c.errorOf(v, cause)) {
		c.fabric.tell(c.uid, v)
	}
}

// verdictWait is how long a rank waits for the verdict on a fault. It takes much less, unless processes are stopped; then
// the judge waits for their answers for half a second.
const verdictWait = 700 * time.Millisecond

// report has a fault judged. The verdict breaks the Comm; if none comes, what this rank knows does.
func (c *Comm) report(r report, cause error) {
	if c.reported.Swap(true) {
		return
	}
	r.Text = clipped(r.Text)
	time.AfterFunc(verdictWait, func() { c.judgeAlone(r, cause) })
	c.fabric.report(c.uid, c.members, r)
}

// judgeAlone breaks the Comm with what this rank knows, if nobody has judged its report.
func (c *Comm) judgeAlone(r report, cause error) {
	c.breaking.Lock()
	released := c.released
	c.breaking.Unlock()
	if released {
		return
	}
	d := dispute{
		members: c.members, reporter: c.members[c.rank], report: r, answers: map[int]answer{}, lost: map[int]string{},
		info: func(world int) RankInfo { i, _ := c.fabric.info(world); return i },
	}
	text := fmt.Sprintf("%s reports: %s", d.name(d.reporter), r.Text)
	var culprits []Culprit
	judge, state := c.fabric.judges(), "does not answer: its process is stopped, or cut off"
	if gone := c.orphaned.Load(); gone != nil && gone.Rank == judge {
		d.lost[judge], state = gone.Text, "is lost: "+gone.Text
		if r.Kind == verdictTimeout { // follows from it, as that neighbours have given up
			r.Kind = verdictLost
		}
	}
	if r.Accused >= 0 && r.Accused != judge {
		culprits = append(culprits, d.culprit(r.Accused))
		text += fmt.Sprintf(" (%s)", d.name(r.Accused))
	}
	if d.rank(judge) >= 0 && judge != d.reporter {
		culprits = append(culprits, d.culprit(judge))
		text = fmt.Sprintf("%s, which should judge, %s; %s", d.name(judge), state, text)
	}
	c.breakAndTell(d.verdict(r.Kind, culprits, text), cause)
}

// heard takes a verdict, a notice or a loss from the fabric.
func (c *Comm) heard(scope string, v verdict) {
	if v.Kind == noticeLost && v.Rank == c.fabric.judges() {
		c.orphaned.Store(&v)
	}
	if scope != "" && scope != c.uid || !slices.Contains(c.members, v.Rank) || c.cause.Load() != nil {
		return
	}
	switch v.Kind {
	case noticeWaiting:
		c.journal.heard(c, v)
	case noticeLost:
		c.report(report{Kind: verdictLost, Accused: v.Rank, Text: v.Text}, nil)
	default:
		c.breakWith(v, c.errorOf(v, nil))
	}
}

// Abort breaks the communicator on every rank: the running and all later calls return an error that wraps ErrAborted
// and names cause. It returns at once and may be called from any goroutine.
func (c *Comm) Abort(cause error) {
	text := "Abort was called"
	if cause != nil {
		text = cause.Error()
	}
	c.fail(verdict{Kind: verdictAborted, Rank: c.members[c.rank], Text: text}, cause)
}

// Close ends the communicator. It waits for the collectives that were started and, unless the Comm is broken, for all
// ranks to call Close, at most until ctx ends, and half a second more to learn who is missing: Options.Timeout does not bound that. Memory from Alloc must no longer be used.
// A second call returns ErrClosed.
func (c *Comm) Close(ctx context.Context) error {
	if c.closed.Swap(true) {
		return ErrClosed
	}
	ordered := c.awaitOrdered(ctx)
	errs := []error{c.drain(ctx)}
	c.seal()
	if !ordered { // without stream memory operations a call is given for as long as its collective runs, which drain has ended
		ordered = c.awaitOrdered(ctx)
	}
	if c.cause.Load() == nil {
		alive, stop := c.whileAlive(ctx)
		_, err := c.fabric.exchange(alive, c.uid+"/close", c.members, nil)
		if stop(); err != nil && c.cause.Load() == nil {
			errs = append(errs, fmt.Errorf("hfreduce: close on rank %d: %w", c.rank, err))
		}
	}
	c.awaitTold()
	c.deaf()
	c.fabric.remove(c)
	c.end(ErrClosed)
	left := !ordered // memory that a GPU may still touch
	if left {
		errs = append(errs, fmt.Errorf("hfreduce: a call is still being given to the GPU of rank %d, so its memory stays mapped: %w", c.rank, ctx.Err()))
	} else if g := c.devices.gpu.Load(); g != nil {
		var err error
		left, err = g.close(ctx)
		errs = append(errs, err)
	}
	c.release()
	c.engine.Close()
	errs = append(errs, c.engine.CloseLinks(), c.registered.close(), c.bell.Close())
	if !left {
		errs = append(errs, c.segment.Close())
	}
	return errors.Join(append(errs, c.leave(ctx))...)
}

// awaitTold waits until whoever breaks the Comm has told the other ranks why. The calls that end for that may be another
// goroutine's, which closes the Comm at once: then the others would find it closed.
func (c *Comm) awaitTold() {
	c.telling.Lock()
	defer c.telling.Unlock()
}

// leaveGrace is how long the last communicator of a rank waits for the others at its end when it is broken: some may be
// stopped, and never come.
const leaveGrace = time.Second

// leave gives the fabric back.
func (c *Comm) leave(ctx context.Context) error {
	if c.cause.Load() == nil {
		return c.fabric.release(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, leaveGrace)
	defer cancel()
	if err := c.fabric.release(ctx); err != nil {
		c.log.Info("left after a fault", "rank", c.rank, "error", err)
	}
	return nil
}

// drain waits for the collectives that were started; when ctx ends first it breaks the Comm so that they end.
func (c *Comm) drain(ctx context.Context) error {
	err := c.queue.drain(ctx)
	if err == nil {
		return nil
	}
	c.fail(verdict{Kind: verdictAborted, Rank: c.members[c.rank], Text: fmt.Sprintf("Close could not wait for a collective: %v", err)}, err)
	return errors.Join(err, c.queue.drain(context.Background()))
}

// seal makes collectives fail that were called before Close and get their turn only now. None runs.
func (c *Comm) seal() {
	for !c.queue.enter() {
		_ = c.queue.drain(context.Background())
	}
	c.sealed = true
	c.queue.leave(c)
}

// release makes breakWith keep off the engine, whose memory is about to go.
func (c *Comm) release() {
	c.breaking.Lock()
	defer c.breaking.Unlock()
	c.released = true
}
