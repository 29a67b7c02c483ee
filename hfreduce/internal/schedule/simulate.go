// SPDX-License-Identifier: Apache-2.0

package schedule

import "fmt"

// piece is a contiguous range of the data with what it holds. Addresses count
// in the buffer or, for ReduceScatter and AllGather, in the blocks of all ranks
// one after the other.
type piece struct {
	lo, hi int64
	set    rankSet // nil until the node has anything; never changed once sent
}

// shardState is one shard of an item on one node.
type shardState struct {
	pieces  []piece
	waiting int     // children that have not sent yet
	got     [2]bool // by child
	hops    int     // messages on the longest way that led here
	unsent  int     // own messages not yet delivered
	final   bool    // nothing will come or be sent any more, but for unsent ones
}

// slotState is one slot of a node's ring.
type slotState struct {
	busy     bool
	item     Item
	flow     Flow
	parent   int
	children [2]int
	count    int // of children
	shards   []shardState
	open     int // shards not complete
}

type nodeState struct {
	items   []Item
	started int // items below are started: this is the limit granted to others
	ring    []slotState
	blocked []message // sent to this node, but not granted yet
	written []piece   // the node's output; sets are checked and dropped
	results int       // how often an output was written, also of zero bytes
}

// message carries one shard of item seq.
type message struct {
	from, to, seq, shard int
	item                 Item
	down                 bool
	pieces               []piece
	hops                 int
}

// simulation runs a model. Its events are: a node looks for items that it can
// start (wake), and a granted message arrives (ready).
type simulation struct {
	layout *Layout
	plan   *Plan
	model  model
	nodes  []nodeState
	wake   []int
	ready  []message
	pick   func(n int) int // chooses one of n at random; nil: always the latest
	report Report
}

func newSimulation(l *Layout, p *Plan, m model, slots int, pick func(n int) int) *simulation {
	n := l.NodeCount()
	s := &simulation{layout: l, plan: p, model: m, pick: pick, nodes: make([]nodeState, n)}
	s.report = Report{Tx: make([]int64, n), Rx: make([]int64, n)}
	for v := range s.nodes {
		items := m.items(v)
		s.nodes[v].items = items
		s.nodes[v].ring = make([]slotState, max(1, min(slots, len(items))))
		s.wake = append(s.wake, v)
		s.report.Items = max(s.report.Items, int64(len(items)))
	}
	return s
}

// run works off events until none is left, then looks for unfinished items.
func (s *simulation) run() error {
	for {
		var err error
		switch {
		case len(s.wake) > 0 && (s.pick == nil || len(s.ready) == 0 || s.pick(2) == 0):
			err = s.start(take(s, &s.wake))
		case len(s.ready) > 0:
			err = s.deliver(take(s, &s.ready))
		default:
			return s.deadlock()
		}
		if err != nil {
			return err
		}
	}
}

// take removes an event: a random one, or the latest.
func take[T any](s *simulation, events *[]T) T {
	i := len(*events) - 1
	if s.pick != nil {
		i = s.pick(len(*events))
	}
	e, last := (*events)[i], len(*events)-1
	(*events)[i] = (*events)[last]
	*events = (*events)[:last]
	return e
}

// start opens as many items on node v as have a free slot, in order, and lets
// the messages go that were waiting for them.
func (s *simulation) start(v int) error {
	node := &s.nodes[v]
	for node.started < len(node.items) {
		slot := &node.ring[node.started%len(node.ring)]
		if slot.busy {
			break
		}
		seq := node.started
		node.started++
		if err := s.open(v, seq, slot); err != nil {
			return err
		}
	}
	kept := node.blocked[:0]
	for _, m := range node.blocked {
		if m.seq < node.started {
			s.ready = append(s.ready, m)
		} else {
			kept = append(kept, m)
		}
	}
	node.blocked = kept
	return nil
}

// open begins item seq on node v with the node's own contributions.
func (s *simulation) open(v, seq int, slot *slotState) error {
	it := s.nodes[v].items[seq]
	f := s.model.flow(it.Flow)
	*slot = slotState{busy: true, item: it, flow: f, parent: s.model.parent(f, v)}
	slot.children, slot.count = s.model.children(f, v)
	if f.Pair {
		other := max(slot.parent, slot.children[0])
		slot.parent, slot.children, slot.count = other, [2]int{other}, 1
	}
	slot.shards = make([]shardState, ShardCount(it.Bytes(), s.layout.Shards()))
	slot.open = len(slot.shards)
	for i := range slot.shards {
		sh := &slot.shards[i]
		var err error
		if sh.pieces, err = s.pieces(v, slot, i); err != nil {
			return err
		}
		if f.Up {
			sh.waiting = slot.count
		}
		if f.Pair {
			if err := s.send(v, slot.parent, seq, slot, i, false); err != nil {
				return err
			}
		}
		if sh.waiting == 0 && (f.Up || slot.parent < 0) {
			if err := s.summed(v, seq, slot, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// pieces cuts a shard of an item into ranges with the node's own contributions.
func (s *simulation) pieces(v int, slot *slotState, shard int) ([]piece, error) {
	it := slot.item
	lo, hi := s.model.cut(v, it, shard)
	var pieces []piece
	for c := s.plan.Segments(s.layout, Item{Flow: it.Flow, Lo: it.Lo + lo, Hi: it.Lo + hi}); ; {
		seg, ok := c.Next()
		if !ok {
			break
		}
		start := seg.Offset + int64(max(seg.Rank, 0))*s.plan.Block
		set, err := s.own(v, slot, seg.Rank)
		if err != nil {
			return nil, err
		}
		pieces = append(pieces, piece{lo: start, hi: start + seg.Hi - seg.Lo, set: set})
	}
	if pieces != nil {
		return pieces, nil
	}
	set, err := s.own(v, slot, -1) // an empty item still says who was there
	return []piece{{set: set}}, err
}

// own returns the set of node v's own contributions, nil if it has none.
func (s *simulation) own(v int, slot *slotState, rank int) (rankSet, error) {
	ranks := s.model.inputs(v, slot.flow, rank)
	if len(ranks) == 0 {
		return nil, nil
	}
	set := newRankSet(s.layout.WorldSize())
	for _, r := range ranks {
		if !set.add(r) {
			return nil, fmt.Errorf("schedule: node %d adds rank %d twice to %v", v, r, slot.item)
		}
	}
	return set, nil
}

// summed goes on with a shard that holds all that comes from below.
func (s *simulation) summed(v, seq int, slot *slotState, shard int) error {
	if slot.parent < 0 || slot.flow.Pair {
		return s.result(v, seq, slot, shard)
	}
	slot.shards[shard].final = !slot.flow.Down
	return s.send(v, slot.parent, seq, slot, shard, false)
}

// result writes a shard that is final and sends it on down.
func (s *simulation) result(v, seq int, slot *slotState, shard int) error {
	sh := &slot.shards[shard]
	sh.final = true
	if err := s.write(v, slot.item, sh.pieces); err != nil {
		return err
	}
	if slot.flow.Down && !slot.flow.Pair {
		for _, child := range slot.children[:slot.count] {
			if err := s.send(v, child, seq, slot, shard, true); err != nil {
				return err
			}
		}
	}
	s.settle(v, slot, sh)
	return nil
}

// settle frees the slot with its last shard.
func (s *simulation) settle(v int, slot *slotState, sh *shardState) {
	if !sh.final || sh.unsent > 0 {
		return
	}
	if slot.open--; slot.open == 0 {
		slot.busy = false
		s.wake = append(s.wake, v)
	}
}
