// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// This file builds communicators: the ranks agree on what must be equal, the ranks of each node join a segment, and
// links are made when a collective first needs them.

// terms is what each rank states when a communicator is built. All but the UID must be equal.
type terms struct {
	UID        string `json:",omitempty"` // from the first member
	ChunkBytes int
	Slots      int
	OnePass    int
	Transport  string

	DeviceChunkBytes, DeviceSlots int

	Checksum, VerifyResults bool

	Devices bool   `json:",omitempty"` // this rank has, or may have, a GPU; not all need to
	Lacks   string `json:",omitempty"` // what this rank was asked for and does not have
}

// String lists the terms by the options that set them.
func (t terms) String() string {
	return fmt.Sprintf("ChunkBytes %d, Slots %d, OnePassBytes %d, Transport %s, DeviceChunkBytes %d, DeviceSlots %d, Checksum %t, VerifyResults %t",
		t.ChunkBytes, t.Slots, t.OnePass, t.Transport, t.DeviceChunkBytes, t.DeviceSlots, t.Checksum, t.VerifyResults)
}

// agree exchanges the terms and returns the first member's, with Devices set if any member has set it.
func agree(ctx context.Context, f fabric, o *Options, key string, members []int, rank int) (first terms, err error) {
	mine := terms{
		ChunkBytes: o.ChunkBytes, Slots: o.Slots, OnePass: o.OnePassBytes, Transport: o.Transport,
		DeviceChunkBytes: o.DeviceChunkBytes, DeviceSlots: o.DeviceSlots,
		Checksum: o.Checksum, VerifyResults: o.VerifyResults,
	}
	var lacks error
	if mine.Devices, lacks = o.devices(); lacks != nil {
		mine.Lacks = clipped(lacks.Error()) // the others are to hear it from this rank, not that it has closed
	}
	if rank == 0 {
		mine.UID = rand.Text()
	}
	b, err := json.Marshal(mine)
	if err != nil {
		return first, err
	}
	all, err := f.exchange(ctx, key+"/terms", members, b)
	if lacks != nil {
		return first, lacks
	}
	if err != nil {
		return first, err
	}
	devices := false
	for r, raw := range all {
		var t terms
		if err := json.Unmarshal(raw, &t); err != nil {
			return first, fmt.Errorf("rank %d sent unreadable terms: %w", r, err)
		}
		if t.Lacks != "" {
			i, _ := f.info(members[r])
			return first, fmt.Errorf("%w on %s: %s", ErrNotSupported, nameOf(r, i, ""), t.Lacks)
		}
		devices = devices || t.Devices
		if t.Devices = false; r == 0 {
			first = t
			continue
		}
		if t.UID = first.UID; t != first {
			return first, fmt.Errorf("%w: options differ: rank 0 has %v; rank %d has %v; set them alike on all ranks", ErrMismatch, first, r, t)
		}
	}
	first.Devices = devices
	return first, nil
}

// worldKey is the key of the communicator of all ranks, the first that there is.
const worldKey = "init"

// newComm builds the communicator of members (world ranks), of which this one is the rank-th. The key is unique among
// the exchanges of the fabric.
func newComm(ctx context.Context, f *sharedFabric, o Options, key string, members []int, rank int) (*Comm, error) {
	agreed, err := agree(ctx, f, &o, key, members, rank)
	if err != nil {
		return nil, err
	}
	layout, err := layoutOf(f, members)
	if err != nil {
		return nil, err
	}
	c := &Comm{fabric: f, opts: o, log: o.Logger, uid: agreed.UID, members: members, rank: rank, layout: layout, linked: map[planKey]bool{}}
	c.salt = uint64(crc32.ChecksumIEEE([]byte(c.uid)))
	c.devices.made, c.devices.planned = agreed.Devices, 1
	c.exchange = schedule.NewExchange(&c.layout)
	c.pipeline = o.pipelineOver(c.layout.NodeCount(), c.layout.Shards(), c.devices.made)
	c.life, c.end = context.WithCancelCause(context.Background())
	joinErr := c.joinWithOthers(ctx, key)
	if joinErr == nil {
		f.add(c)
		c.deaf = f.listen(c.heard) // before anybody can know that this rank is there
	}
	if err := c.confirm(ctx, key, joinErr); err != nil {
		c.end(err)
		if joinErr == nil && ctx.Err() != nil { // the others may have it
			f.tell(c.uid, verdict{Kind: verdictAborted, Rank: members[rank], Text: fmt.Sprintf("it did not get the communicator: %v", err)})
		}
		if joinErr == nil {
			c.deaf()
			f.remove(c)
			c.release() // a report or a verdict may still be on its way
			c.engine.Close()
			err = errors.Join(err, c.engine.CloseLinks(), c.registered.close(), c.bell.Close(), c.segment.Close())
		}
		return nil, err
	}
	f.retain()
	c.log.Info("communicator", "uid", c.uid, "devices", agreed.Devices, "rank", rank, "ranks", len(members), "nodes", len(layout.Nodes), "local_size", c.LocalSize(),
		"slots", c.pipeline.slots, "chunk_bytes", c.pipeline.chunk, "one_pass_bytes", o.OnePassBytes, "exchange_bytes", c.exchange.MaxBytes(), "checksum", o.Checksum, "verify_results", o.VerifyResults, "waiting", fmt.Sprintf("%+v", f.policy()))
	return c, nil
}

// layoutOf groups members by node, nodes in the order of their first rank.
func layoutOf(f fabric, members []int) (schedule.Layout, error) {
	nodeOf, number := make([]int, len(members)), map[string]int{}
	for r, world := range members {
		_, node := f.info(world)
		if _, known := number[node]; !known {
			number[node] = len(number)
		}
		nodeOf[r] = number[node]
	}
	return schedule.NewLayout(nodeOf)
}

// join maps the node's segment and makes the engine over it. The world's communicator is the first one of the rank.
func (c *Comm) join(ctx context.Context, world bool) error {
	node := c.Node()
	g := c.geometry()
	ranks := make([]int, c.LocalSize())
	for l, r := range c.layout.Nodes[node] {
		ranks[l] = c.members[r]
	}
	segment, bells, err := c.fabric.segment(ctx, fmt.Sprintf("%s-%d", c.uid, node), c.LocalRank(), ranks, &g)
	if err != nil {
		return fmt.Errorf("shared memory of node %d: %w", node, err)
	}
	cfg := engine.Config{
		Layout: &c.layout, Rank: c.rank, Geometry: g, Base: segment.Base(), Bells: bells,
		Policy: c.fabric.policy(), Arena: segment.Arena,
		Timeout: max(0, c.opts.Timeout), Silence: c.opts.HeartbeatTimeout, Notice: noticeDelay(c.rank), OnNotice: func() { c.journal.tell(c) },
	}
	if c.devices.made {
		cfg.Helpers = c.helpers()
		cfg.OnDrain, cfg.Pump = func() { c.devices.complete(c) }, c.devices.pump
	}
	if cfg.Probe, err = c.probe(world); err == nil {
		c.engine, err = engine.New(cfg)
	}
	if err != nil {
		return errors.Join(err, segment.Close())
	}
	c.segment, c.segmentBytes, c.bell = segment, g.Bytes(), bells[c.LocalRank()]
	if err := c.registerSegment(); err != nil {
		return errors.Join(err, segment.Close())
	}
	return nil
}

// geometry returns how the node's segment is laid out.
func (c *Comm) geometry() engine.Geometry {
	o := &c.opts
	g := engine.NewGeometry(c.LocalSize(), c.layout.Shards(), c.pipeline.slots, int64(c.pipeline.chunk), int64(o.OnePassBytes), c.exchange)
	if c.devices.made {
		g = g.WithDevices()
	}
	if o.Checksum {
		g = g.WithChecksums()
	}
	return g
}

// Split divides the communicator: ranks that give the same color form a new one, ranked by key and, for equal keys, by
// their rank here. A negative color takes part but gets a nil Comm. All ranks must call it, as a collective; the new
// communicators work beside this one and each other, also at the same time, and are closed on their own.
func (c *Comm) Split(ctx context.Context, color, key int) (*Comm, error) {
	if err := c.usable(); err != nil {
		return nil, &OpError{Op: "Split", Rank: c.rank, Err: err}
	}
	sub, err := c.split(ctx, color, key)
	if err != nil {
		return nil, &OpError{Op: "Split", Rank: c.rank, Err: c.verdictOr(err)}
	}
	return sub, nil
}

// derive builds another communicator of members (world ranks), of which this one is the rank-th. The fabric stays meanwhile,
// even if this is the last Comm and is closed.
func (c *Comm) derive(ctx context.Context, key string, members []int, rank int) (*Comm, error) {
	c.fabric.retain()
	n, err := newComm(ctx, c.fabric, c.opts, key, members, rank)
	return n, errors.Join(err, c.fabric.release(ctx))
}

// choice is what a rank gives to Split.
type choice struct{ Color, Key int }

func (c *Comm) split(ctx context.Context, color, key int) (*Comm, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	ctx, stop := c.whileAlive(ctx)
	defer stop()
	name := fmt.Sprintf("%s/split/%d", c.uid, c.splits.Add(1))
	mine, err := json.Marshal(choice{color, key})
	if err != nil {
		return nil, err
	}
	all, err := c.fabric.exchange(ctx, name, c.members, mine)
	if err != nil {
		return nil, err
	}
	if color < 0 {
		return nil, nil
	}
	ranks, err := chosen(all, color)
	if err != nil {
		return nil, err
	}
	members := make([]int, len(ranks))
	for i, r := range ranks {
		members[i] = c.members[r]
	}
	return c.derive(ctx, fmt.Sprintf("%s/%d", name, color), members, slices.Index(ranks, c.rank))
}

// chosen returns the ranks with the color, in the new order.
func chosen(all [][]byte, color int) ([]int, error) {
	keys := map[int]int{}
	var ranks []int
	for r, raw := range all {
		var ch choice
		if err := json.Unmarshal(raw, &ch); err != nil {
			return nil, fmt.Errorf("rank %d sent an unreadable color and key: %w", r, err)
		}
		if ch.Color == color {
			keys[r] = ch.Key
			ranks = append(ranks, r)
		}
	}
	slices.SortStableFunc(ranks, func(a, b int) int { return cmp.Compare(keys[a], keys[b]) })
	return ranks, nil
}

// whileAlive returns a context that also ends when the Comm breaks or closes.
func (c *Comm) whileAlive(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.life, func() { cancel(context.Cause(c.life)) })
	return ctx, func() { stop(); cancel(nil) }
}

// verdictOr returns why the Comm broke if it did, or is about to, and err otherwise.
func (c *Comm) verdictOr(err error) error {
	if c.reported.Load() {
		<-c.life.Done()
	}
	if cause := c.cause.Load(); cause != nil {
		return *cause
	}
	return err
}

// connect makes the links that a plan needs, all at once: every rank of the plan is at the same call.
func (c *Comm) connect(ctx context.Context, p *schedule.Plan, bytes int64) error {
	ctx, stop := c.whileAlive(ctx)
	defer stop()
	if c.opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.opts.Timeout, engine.ErrStalled)
		defer cancel()
	}
	notice := time.AfterFunc(noticeDelay(c.rank), func() { c.journal.tell(c) })
	defer notice.Stop()
	var peers []int
	c.engine.Peers(p, bytes, func(rank int) {
		if !c.engine.Linked(rank) && !slices.Contains(peers, rank) {
			peers = append(peers, rank)
		}
	})
	stuck := &engine.Position{}
	for _, rank := range peers {
		stuck.Needs = append(stuck.Needs, engine.Need{Rank: rank, For: engine.ForLink})
	}
	c.stuck.Store(stuck)
	links, errs := c.dial(ctx, peers)
	stall := &engine.StallError{}
	for i, rank := range peers {
		if links[i] != nil {
			c.engine.AddLink(rank, links[i])
			continue
		}
		stall.Needs = append(stall.Needs, engine.Need{Rank: rank, For: engine.ForLink})
	}
	if len(stall.Needs) > 0 && context.Cause(ctx) == engine.ErrStalled {
		return stall
	}
	err := errors.Join(errs...)
	if err == nil {
		c.stuck.Store(nil)
	}
	return err
}

// dial connects to each of the ranks.
func (c *Comm) dial(ctx context.Context, peers []int) ([]transport.Link, []error) {
	links, errs := make([]transport.Link, len(peers)), make([]error, len(peers))
	cfg := c.engine.LinkConfig()
	var wg sync.WaitGroup
	for i, rank := range peers {
		wg.Go(func() {
			links[i], errs[i] = c.fabric.transport().Connect(ctx, c.members[rank], c.uid, cfg)
			switch err := errs[i]; {
			case errors.Is(err, transport.ErrPeerLost):
				errs[i] = &engine.LinkError{Rank: rank, Err: err}
			case err != nil:
				errs[i] = fmt.Errorf("connect to rank %d: %w", rank, err)
			}
		})
	}
	wg.Wait()
	return links, errs
}
