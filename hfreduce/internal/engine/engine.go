// SPDX-License-Identifier: Apache-2.0

// Package engine runs one rank's part of a collective: the chunk pipeline.
//
// The way of an item (a chunk of one flow of the plan) through a node, and the file that holds each stage:
//
//  1. stage: each rank copies its input into the slot, or says where it lies (stage.go)
//  2. reduce: the shard's rank adds the node's inputs and the children's partial sums in one pass (stage.go)
//  3. up, down: partial sums go to the tree parent, results to the children (post.go, deliver.go)
//  4. publish: the shard's rank says that the result is there; each rank copies it out (stage.go)
//  5. retire: each rank says that it is through; a slot is reused when all are (progress.go)
//
// step.go decides, as a pure state machine, what comes next for a shard; progress.go drives it. Stages of different
// items overlap, up to the number of slots. Nothing here depends on timing: an item's place, its cut into shards and
// the order of its sum follow from the plan alone.
package engine

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// Config is what an Engine works with. The slices are not copied.
type Config struct {
	Layout   *schedule.Layout
	Rank     int
	Geometry Geometry
	Base     []byte        // the node's segment, Geometry.Bytes long
	Bells    []wait.Bell   // one for each local rank, own one included
	Policy   wait.Policy   // how to wait
	Timeout  time.Duration // without progress, before Run gives up; 0: none
	Silence  time.Duration // of a link (transport.Prober), before a rank that waits takes it for broken; 0: it does not look
	Notice   time.Duration // without progress, before OnNotice is called, once in a Run; 0: never
	OnNotice func()
	Arena    func(local int) ([]byte, error) // memory that a local rank shares (Op.SrcShare)
	Helpers  int                             // goroutines that help to add what devices copy
	OnDrain  func()                          // called when this rank, or its device, is through with more (Through)
	Pump     func() (moved bool, err error)  // called with every look for work, where the device needs somebody's help
	Probe    func(Stage)                     // nil, or called when a stage begins; tests hold ranks up and kill them there
}

// Engine is one rank's pipeline. It is used by one goroutine at a time, except for Break and Counters.
type Engine struct {
	cfg       Config
	mem       memory
	node      int
	local     int
	localSize int

	ring    []item
	next    uint32 // sequence number of the next item to begin
	head    uint32 // oldest item that this rank is not through with
	settled uint32 // oldest item with which not only the device is not through
	opened  uint32 // oldest item whose result the device may not have yet
	limit   uint32 // what was last granted to the peers

	device *device // nil where there is none
	team   *team   // the same

	links     []transport.Link       // by rank, nil where there is none
	open      []openLink             // the same, without gaps
	carriers  []*LinkCounters        // by rank
	redirect  []transport.Redirector // by rank, nil where the link is none
	selective []transport.Selective  // the same
	probers   []prober               // without gaps
	landings  [][]byte               // what links deliver into
	arrivals  []arrival              // by landing area of the pipeline
	looks     uint                   // of exchanges at links
	exchanges uint32                 // number of the first landing area of exchanges
	inbound   []arrival              // by landing area of exchanges
	events    [16]transport.Event

	short                    short
	op                       *Op
	streamSums, streamCopies bool // Op.streams
	cursor                   schedule.Cursor
	more                     bool // the cursor has given cut, which is not begun
	cut                      schedule.Item

	srcs    [][]byte
	part    [][]byte // of srcs
	scales  []float64
	weights map[schedule.Tree]weights // of means; made when first needed
	arenas  [][]byte
	backoff wait.Backoff

	call      uint64 // number of the running or last collective, above the bits of its stage
	probe     func(Stage)
	state     *uint64 // this rank's state word
	attention atomic.Uint32
	asked     atomic.Pointer[question]
	cause     atomic.Pointer[error]
	counter   Counters
}

// openLink is a link and the rank at its other end.
type openLink struct {
	transport.Link
	rank int
}

// arrival is the latest message in a landing area.
type arrival struct {
	seq, tag uint32
	sum      uint32
	bytes    int
	from     int
	fresh    bool
}

// Counters count what an Engine copied into the node's segment to be reduced there, compared with its checksum, and sent and
// received over its links. They may be read at any time.
type Counters struct {
	StagedBytes atomic.Uint64
	Checked     atomic.Uint64                   // how often data was compared with its checksum
	links       atomic.Pointer[[]*LinkCounters] // a new slice for each new transport
}

// LinkCounters count what went over the links of one transport.
type LinkCounters struct {
	Transport                                                string
	Peers                                                    atomic.Int64
	SentBytes, ReceivedBytes, SentMessages, ReceivedMessages atomic.Uint64
}

// Links returns the counters of each transport that carries links.
func (c *Counters) Links() []*LinkCounters {
	if links := c.links.Load(); links != nil {
		return *links
	}
	return nil
}

// over returns the counters of a transport.
func (c *Counters) over(name string) *LinkCounters {
	links := c.Links()
	for _, l := range links {
		if l.Transport == name {
			return l
		}
	}
	l := &LinkCounters{Transport: name}
	links = append(links[:len(links):len(links)], l)
	c.links.Store(&links)
	return l
}

// New returns the engine of a rank. The segment must be zeroed.
func New(cfg Config) (*Engine, error) {
	if s := cfg.Geometry.slots; s < 1 || s&(s-1) != 0 {
		return nil, fmt.Errorf("engine: %d slots are no power of two, so that two items could meet in one where numbers wrap", s)
	}
	if int64(len(cfg.Base)) < cfg.Geometry.Bytes() {
		return nil, fmt.Errorf("engine: the segment has %d bytes, the geometry needs %d", len(cfg.Base), cfg.Geometry.Bytes())
	}
	e := &Engine{
		cfg: cfg, mem: memory{cfg.Geometry, cfg.Base}, next: 1, head: 1, settled: 1, opened: 1,
		node: cfg.Layout.NodeOf(cfg.Rank), local: cfg.Layout.LocalRank(cfg.Rank),
		backoff: wait.NewBackoff(cfg.Policy),
	}
	e.localSize = len(cfg.Layout.Nodes[e.node])
	e.state, e.probe = e.mem.stateWord(e.local), cfg.Probe
	e.device = newDevice(&e.mem, e.local)
	e.links = make([]transport.Link, cfg.Layout.WorldSize())
	e.carriers = make([]*LinkCounters, len(e.links))
	e.redirect = make([]transport.Redirector, len(e.links))
	e.selective = make([]transport.Selective, len(e.links))
	e.landings = e.mem.landings(e.local)
	e.arrivals = make([]arrival, e.mem.slots*e.mem.shards*phases)
	e.exchanges = uint32(len(e.arrivals))
	e.inbound = make([]arrival, len(e.landings)-len(e.arrivals))
	e.ring = make([]item, e.mem.slots)
	for i := range e.ring {
		e.ring[i].own = make([]Shard, 0, (e.mem.shards+e.localSize-1)/e.localSize)
		e.ring[i].away = make([]bool, cap(e.ring[i].own))
		e.ring[i].sums = make([]uint32, cap(e.ring[i].own))
	}
	if e.device != nil {
		e.device.ahead = e.aheadOf(e.mem.chunk, 1)
		e.team = newTeam(cfg.Helpers, e.localSize+2, e.tend)
	}
	e.srcs = make([][]byte, 0, e.localSize+2)
	e.part = make([][]byte, 0, e.localSize+2)
	e.scales = make([]float64, 0, e.localSize+2)
	e.arenas = make([][]byte, e.localSize)
	return e, nil
}

// Counters returns the engine's counters.
func (e *Engine) Counters() *Counters { return &e.counter }

// Break makes the running and every later Run return cause. It may be called from any goroutine; the first cause stays.
func (e *Engine) Break(cause error) {
	e.cause.CompareAndSwap(nil, &cause)
	e.attention.Or(broken)
	e.cfg.Bells[e.local].Ring()
}

// Peers calls yield with every rank that a collective of so many bytes makes this rank talk to. p is its plan.
func (e *Engine) Peers(p *schedule.Plan, bytes int64, yield func(rank int)) {
	if x := e.mem.exchange; x.Takes(p.Collective, bytes) {
		for r := range x.Rounds() {
			if step := x.Step(e.node, r); step.Partner >= 0 {
				yield(e.counterpart(step.Partner))
			}
		}
		return
	}
	for f := range p.Flows() {
		tree := p.Flow(f).Tree
		child, n := tree.Children(e.node)
		nodes := append(child[:n:n], tree.Parent(e.node))
		for _, node := range nodes {
			for s := e.local; node >= 0 && s < e.mem.shards; s += e.localSize {
				yield(e.peer(node, s))
			}
		}
	}
}

// Linked reports whether there is a link to a rank.
func (e *Engine) Linked(rank int) bool { return e.links[rank] != nil }

// LinkConfig returns what a new link of this rank must be made with. It changes with every collective, so the link has
// to be added (AddLink) before the next Run.
func (e *Engine) LinkConfig() transport.LinkConfig {
	return transport.LinkConfig{
		Landings: e.landings, Bell: e.cfg.Bells[e.local], Window: uint32(e.mem.slots), Start: e.next,
		MaxPosts: e.mem.slots*phases*cap(e.ring[0].own) + e.rounds(),
	}
}

// AddLink gives the engine the link to a rank.
func (e *Engine) AddLink(rank int, l transport.Link) {
	e.links[rank] = l
	e.carriers[rank] = e.counter.over(l.Transport())
	e.carriers[rank].Peers.Add(1)
	e.redirect[rank], _ = l.(transport.Redirector)
	e.selective[rank], _ = l.(transport.Selective)
	if e.device != nil && e.selective[rank] != nil {
		e.device.adapters.Store(true)
	}
	if p, ok := l.(transport.Prober); ok {
		e.probers = append(e.probers, prober{p, rank})
	}
	e.open = append(e.open, openLink{l, rank})
	l.Grant(e.mem.through() + uint32(e.mem.slots) + 1) // the next advance grants the same to the older links
}

// CloseLinks closes all links. Nothing must be running.
func (e *Engine) CloseLinks() error {
	var errs []error
	for _, l := range e.open {
		errs = append(errs, l.Close())
	}
	e.open, e.probers = nil, nil
	e.maySend(false)
	return errors.Join(errs...)
}

// Close ends what the engine has started. Nothing must be running, and nothing runs afterwards.
func (e *Engine) Close() {
	if e.team != nil {
		e.team.end()
	}
}

// arena maps the memory that a local rank shares, when a collective first reads from it.
func (e *Engine) arena(local int) error {
	if e.arenas[local] != nil {
		return nil
	}
	a, err := e.cfg.Arena(local)
	if err != nil {
		return fmt.Errorf("engine: map the shared buffers of local rank %d: %w", local, err)
	}
	e.arenas[local] = a
	return nil
}
