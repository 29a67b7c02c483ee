// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"unsafe"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// live is memory that a rank will read, and what it must say if a bit of it changes.
type live struct {
	mem      []byte
	hop      hop
	from, to int
}

func (l *live) holds(p *byte) bool {
	at := uintptr(unsafe.Pointer(p)) - uintptr(unsafe.Pointer(unsafe.SliceData(l.mem)))
	return at < uintptr(len(l.mem))
}

// live lists all memory of the segments that holds data which is checked later.
func (w *stepped) live() (all []live) {
	add := func(mem []byte, h hop, from, to int) {
		if len(mem) > 0 {
			all = append(all, live{mem, h, from, to})
		}
	}
	for _, p := range w.posts {
		if h, waits := w.waits(p); waits {
			add(w.engines[p.to].landings[p.landing][:p.bytes], h, p.from, p.to)
		}
	}
	for _, e := range w.engines {
		if e.short.open {
			w.liveShort(e, add)
		}
		for i := range e.ring {
			it := &e.ring[i]
			if it.bytes == 0 || !before(e.mem.through(), it.seq) {
				continue // every rank of the node is through with it
			}
			if e.mem.readyLine(it.slot, e.local).seq == it.seq {
				w.liveInputs(e, it, add)
			}
			for k := range it.own {
				w.liveShard(e, it, e.ownShard(k), &it.own[k], add)
			}
		}
	}
	return all
}

// waits reports whether a message that has landed will be compared, and as what.
func (w *stepped) waits(p posted) (h hop, waits bool) {
	e := w.engines[p.to]
	begun := before(p.seq, e.next)
	if p.landing >= e.exchanges {
		round := int(p.landing-e.exchanges) % e.rounds()
		return hopExchange, !begun || e.short.open && e.short.seq == p.seq && round >= e.short.round
	}
	slot, shard, side := e.mem.split(p.landing)
	h = hopUp
	switch {
	case side == Parent:
		h = hopDown
	case p.pair:
		h = hopPair
	}
	it := &e.ring[slot]
	if !begun || it.seq != p.seq {
		return h, !begun
	}
	s := &it.own[shard/e.localSize]
	switch h {
	case hopDown:
		return h, s.arrived&(1<<Parent) == 0
	case hopPair:
		return h, !s.combined
	}
	return h, !s.reduced
}

// liveShort adds what a rank will read in the small reduction at hand.
func (w *stepped) liveShort(e *Engine, add func(mem []byte, h hop, from, to int)) {
	s, n, count := &e.short, len(e.op.Src), e.short.count
	if s.pending {
		count++
	}
	for l, rank := range e.mates() {
		line := e.mem.flatLine(count, l)
		switch {
		case s.added || l == e.local || line.seq != count:
		case n <= e.mem.inlineBytes():
			add(line.inline[:n], hopShort, rank, e.cfg.Rank)
		default:
			add(e.mem.flatArea(count, l)[:n], hopShort, rank, e.cfg.Rank)
		}
	}
	if s.added && s.round < e.rounds() && !(s.input && !s.summed) {
		if s.step.Takes && !s.step.Result {
			add(e.outbound(), hopPartial, e.cfg.Rank, e.cfg.Rank)
		}
		if s.step.Sends && !s.posted {
			add(e.outbound(), hopExchange, e.cfg.Rank, e.counterpart(s.step.Partner))
		}
	}
}

// shardOf returns a shard of an item as its owner on the node of e sees it, nil if it has not begun the item.
func (w *stepped) shardOf(e *Engine, it *item, shard int) (owner *Engine, s *Shard) {
	owner = w.engines[e.mates()[shard%e.localSize]]
	if its := &owner.ring[it.slot]; its.seq == it.seq {
		s = &its.own[shard/e.localSize]
	}
	return owner, s
}

// liveInputs adds what a rank has put into the slot of an item and others, or it itself, have not read.
func (w *stepped) liveInputs(e *Engine, it *item, add func(mem []byte, h hop, from, to int)) {
	for p := e.pieces(e.op.In, it); ; {
		run, ok := p.next()
		if !ok {
			return
		}
		for s := range it.shards {
			lo, hi := e.bounds(it, s)
			a, b := max(lo, run.lo), min(hi, run.hi)
			owner, state := w.shardOf(e, it, s)
			switch {
			case a >= b:
			case it.flow.Up && (state == nil || !state.reduced) && (it.src == nil || owner != e || e.op.Filled) && !it.bare:
				add(e.mem.input(it.slot, e.local)[a:b], hopInput, e.cfg.Rank, owner.cfg.Rank)
			case !it.flow.Up && it.parent < 0 && (state == nil || !state.inputs):
				add(e.mem.result(it.slot, s)[a-lo:b-lo], hopInput, e.cfg.Rank, owner.cfg.Rank)
			}
		}
	}
}

// liveShard adds an own shard's partial sum or result, while somebody will read it.
func (w *stepped) liveShard(e *Engine, it *item, shard int, s *Shard, add func(mem []byte, h hop, from, to int)) {
	if it.bare && !s.combined && !e.op.Filled || it.private {
		return
	}
	self := e.cfg.Rank
	lo, hi := e.bounds(it, shard)
	data := e.mem.result(it.slot, shard)[:hi-lo]
	if it.bare && !s.combined {
		data = it.src[lo:hi]
	}
	partial := s.reduced || it.bare && !it.filling // there is one, and a sum of it
	if partial && it.parent >= 0 && s.posted&(1<<Parent) == 0 {
		h := hopUp
		if it.flow.Pair {
			h = hopPair
		}
		add(data, h, self, e.peer(it.parent, shard))
	}
	if partial && it.flow.Pair && !s.combined {
		add(data, hopPartial, self, self)
	}
	if there := s.combined || !it.flow.Pair && s.hasResult(); !there {
		return
	}
	for c := range Neighbour(it.children) {
		if it.flow.Down && !it.flow.Pair && s.posted&(1<<c) == 0 {
			add(data, hopDown, self, e.peer(it.child[c], shard))
		}
	}
	for _, rank := range e.mates() {
		reader := w.engines[rank]
		its := &reader.ring[it.slot]
		out := its.seq == it.seq && (its.out || reader.placed(its, shard) || its.draining && before(it.seq, reader.opened)) || its.seq != it.seq && before(it.seq, reader.next)
		if !out && w.takes(rank, it, lo, hi) {
			add(data, hopResult, self, rank)
		}
	}
}

// takes reports whether a rank takes any of bytes [lo,hi) of an item.
func (w *stepped) takes(rank int, it *item, lo, hi int64) bool {
	op := w.ops[rank]
	for p := piecesOf(&op.Plan, &w.layout, rank, op.Out, it.cut); ; {
		run, ok := p.next()
		if !ok {
			return false
		}
		if max(run.lo, lo) < min(run.hi, hi) {
			return true
		}
	}
}

// longVariable makes the tests of checksums as long as their claims.
const longVariable = "HFREDUCE_TEST_LONG"

// TestFlippedBits flips one bit of what lies in the segments at a random moment of random collectives: each is found by a rank
// that reads it, which names the hop.
func TestFlippedBits(t *testing.T) {
	want := 400
	if os.Getenv(longVariable) != "" {
		want = 2000
	}
	found := map[hop]int{}
	flips := 0
	for seed := uint64(1); flips < want; seed++ {
		h, flipped := flipOne(t, seed)
		if t.Failed() {
			return
		}
		if flipped {
			found[h]++
			flips++
		}
	}
	for h := hopInput; h <= hopShort; h++ {
		if found[h] == 0 {
			t.Errorf("no bit of hop %d was flipped", h)
		}
	}
	t.Logf("%d bits flipped and found; by hop (input, result, partial sum, up, down, pair, exchange, small): %v", flips, found)
}

// flipOne makes collectives of a seed until it has flipped a bit.
func flipOne(t *testing.T, seed uint64) (h hop, flipped bool) {
	rng := rand.New(rand.NewPCG(seed, 1))
	layouts := [][]int{{0, 0}, {0, 0, 0, 0}, {0, 1}, {0, 1}, {0, 0, 1, 1}, {0, 1, 2}, {0, 0, 1, 1, 2, 2, 3, 3}, {0, 0, 1}, {0, 1, 0, 1, 2, 2, 0}, {0, 1, 2, 3}}
	nodeOf := layouts[rng.IntN(len(layouts))]
	w := newStepped(t, nodeOf, 1<<rng.IntN(3), 8192, 1024, rng.IntN(2) == 0)
	var wanted []live
	var at *byte
	wait := rng.IntN(60 * len(nodeOf))
	flip := func() {
		if wait--; wait > 0 || flipped {
			return
		}
		places := w.live()
		if len(places) == 0 {
			return
		}
		p := anyOf(rng, places)
		at = &p.mem[rng.IntN(len(p.mem))]
		*at ^= 1 << rng.IntN(8)
		flipped = true
		wanted = slices.DeleteFunc(places, func(l live) bool { return !l.holds(at) })
	}
	for range 20 {
		kind := []schedule.Collective{schedule.AllReduce, schedule.AllReduce, schedule.Reduce, schedule.Broadcast, schedule.ReduceScatter, schedule.AllGather}[rng.IntN(6)]
		bytes := 4 * []int64{1, 11, 12, 250, 2048, 5000, 9000, 20_000, 70_000}[rng.IntN(9)]
		root := rng.IntN(len(nodeOf))
		w.begin(rng, kind, bytes, root)
		err := w.run(t, rng, flip)
		what := fmt.Sprintf("seed %d: %v of %d bytes, root %d, on %v", seed, kind, bytes, root, nodeOf)
		if flipped {
			return w.judge(t, what, err, wanted), true
		}
		if err != nil {
			t.Fatalf("%s: a false alarm: %v", what, err)
		}
	}
	return 0, false
}

// anyOf returns one of the places, of any hop with the same chance, so that rare ones are met.
func anyOf(rng *rand.Rand, places []live) live {
	var hops []hop
	for _, p := range places {
		if !slices.Contains(hops, p.hop) {
			hops = append(hops, p.hop)
		}
	}
	h := hops[rng.IntN(len(hops))]
	some := slices.DeleteFunc(slices.Clone(places), func(l live) bool { return l.hop != h })
	return some[rng.IntN(len(some))]
}

// judge checks that an error is what one of those who read the flipped bit must say, and returns the hop.
func (w *stepped) judge(t *testing.T, what string, err error, wanted []live) hop {
	t.Helper()
	var c *CorruptError
	if !errors.As(err, &c) {
		t.Fatalf("%s: a bit of %s was flipped, and nobody found it: %v", what, w.text(wanted), err)
	}
	for _, l := range wanted {
		if c.From == l.from && c.To == l.to && c.Hop == w.engines[l.to].describe(l.hop, l.from) && c.Sent != c.Got {
			return l.hop
		}
	}
	t.Fatalf("%s: a bit of %s was flipped, found was: %v", what, w.text(wanted), err)
	return 0
}

func (w *stepped) text(all []live) (s string) {
	for _, l := range all {
		s += fmt.Sprintf("[rank %d -> rank %d (%s)]", l.from, l.to, w.engines[l.to].describe(l.hop, l.from))
	}
	return s
}
