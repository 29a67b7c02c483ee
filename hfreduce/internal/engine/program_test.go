// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// drawJob returns a collective as the device of a rank sees it.
func drawJob(t *rapid.T) (tr Transfers, j Job, in, out int64) {
	nodeOf := []int{}
	for n := range rapid.IntRange(1, 4).Draw(t, "nodes") {
		nodeOf = append(nodeOf, slices.Repeat([]int{n}, rapid.IntRange(1, 4).Draw(t, "ranks"))...)
	}
	layout, err := schedule.NewLayout(nodeOf)
	if err != nil {
		t.Fatal(err)
	}
	rank := rapid.IntRange(0, len(nodeOf)-1).Draw(t, "rank")
	node := layout.NodeOf(rank)
	slots := 1 << rapid.IntRange(0, 5).Draw(t, "log of slots")
	g := NewGeometry(len(layout.Nodes[node]), layout.Shards(), slots, 2048, 0, schedule.Exchange{}).WithDevices()
	tr = Transfers{layout: &layout, rank: rank, node: node, local: layout.LocalRank(rank), geometry: g}
	j.Chunk = rapid.SampledFrom([]int64{512, 1536, 2048}).Draw(t, "chunk")
	j.Route, in, out = drawRoute(t, &layout, rank)
	j.First, j.Items = rapid.Uint32().Draw(t, "first"), uint32(j.Plan.ItemCount(j.Chunk))
	j.Fills, j.Drains = rapid.Bool().Draw(t, "fills"), rapid.Bool().Draw(t, "drains")
	return tr, j, in, out
}

// TestProgramCanComeToAnEnd: with both directions in one queue, which stands still at a wait, whatever has been given comes to an
// end if the other ranks do what they can: an item that waits for a slot finds that what it held is drained and flagged before in
// the queue, and one that waits for its result that its input is filled and flagged. And every byte is copied once.
func TestProgramCanComeToAnEnd(t *testing.T) {
	grouped := 0
	rapid.Check(t, func(t *rapid.T) {
		tr, j, in, out := drawJob(t)
		given, taken := coverage{buffer: make([]int, in)}, coverage{buffer: make([]int, out)}
		slots := int64(tr.geometry.slots)
		var flagged, pending [2]int64 // by direction: the items before this place have their flags, or are to get them
		tr.Program(&j, nil, func(s *Step) {
			way, c := 0, &given
			if s.Drain {
				way, c = 1, &taken
			}
			flagged[way] = max(flagged[way], pending[way]) // with the wait, or by itself
			if len(s.Runs) == 0 {
				return
			}
			place := int64(s.Seq - j.First)
			if s.Drain && j.Fills && flagged[0] < place+1 && fillsAny(&tr, &j, flagged[0], place) {
				t.Fatalf("item %d is drained when fills are flagged up to %d", place, flagged[0])
			}
			if !s.Drain && j.Drains && flagged[1] < place+1-slots && drainsAny(&tr, &j, flagged[1], place-slots) {
				t.Fatalf("item %d is filled when drains are flagged up to %d, with %d slots", place, flagged[1], slots)
			}
			if pending[way] > place {
				t.Fatalf("item %d comes after item %d", place, pending[way]-1)
			}
			has := fillsAny
			if s.Drain {
				has = drainsAny
			}
			if place > pending[way] && has(&tr, &j, pending[way], place-1) {
				grouped++
			}
			pending[way] = place + 1
			c.add(t, s.Runs, 0, tr.geometry.Bytes())
		})
		for way, used := range []bool{j.Fills, j.Drains} {
			if used && flagged[way] != pending[way] {
				t.Errorf("direction %d: copies up to item %d, flags up to item %d", way, pending[way], flagged[way])
			}
			times := 0
			if used {
				times = 1
			}
			c := []coverage{given, taken}[way]
			for i, n := range c.buffer {
				if n != times && !(way == 1 && j.SkipOwnBlock && int64(i)/j.Plan.Block == int64(tr.rank)) {
					t.Fatalf("direction %d: byte %d is copied %d times", way, i, n)
				}
			}
		}
	})
	if grouped == 0 {
		t.Error("no items were given together")
	}
}

// fillsAny and drainsAny report whether there are copies for items from one place to another, both counted.
func fillsAny(tr *Transfers, j *Job, from, to int64) bool {
	return anyCopies(j, from, to, func(cut schedule.Item, seq uint32) []Run { return tr.Fills(nil, &j.Route, cut, seq) })
}

func drainsAny(tr *Transfers, j *Job, from, to int64) bool {
	return anyCopies(j, from, to, func(cut schedule.Item, seq uint32) []Run { return tr.Drains(nil, &j.Route, cut, seq) })
}

func anyCopies(j *Job, from, to int64, runs func(schedule.Item, uint32) []Run) bool {
	cursor := j.Plan.Items(j.Chunk)
	for place := int64(0); place <= to; place++ {
		cut, ok := cursor.Next()
		if ok && place >= from && len(runs(cut, j.First+uint32(place))) > 0 {
			return true
		}
	}
	return false
}

// TestGroupsRamp: groups are aligned in the ring, and small where a collective begins and ends.
func TestGroupsRamp(t *testing.T) {
	for _, c := range []struct {
		slots      int
		seq, items uint32
		want       []uint32
	}{
		{8, 0, 12, []uint32{1, 1, 1, 1, 2, 2, 2, 1, 1}},
		{8, 1, 12, []uint32{1, 1, 1, 1, 1, 2, 2, 1, 1, 1}},
		{8, 1<<32 - 6, 12, []uint32{1, 1, 1, 1, 2, 2, 2, 1, 1}},
		{8, 0, 9, []uint32{1, 1, 1, 1, 1, 1, 1, 1, 1}},
		{4, 0, 12, slices.Repeat([]uint32{1}, 12)},
		{8, 5, 0, nil},
	} {
		g := NewGeometry(1, 1, c.slots, 4096, 0, schedule.Exchange{})
		var got []uint32
		for gs := g.groupsOf(c.seq, c.items); gs.next < gs.items; {
			next := gs.peek()
			gs.next += next.items
			got = append(got, next.items)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%d items from %d in %d slots: %v, want %v", c.items, c.seq, c.slots, got, c.want)
		}
	}
}

// TestRunsAreJoined: runs become one copy where all their rows lie evenly, in the segment and without gaps in the buffer.
func TestRunsAreJoined(t *testing.T) {
	row := func(segment, buffer int64) Run { return Run{Segment: segment, Buffer: buffer, Bytes: 64, Rows: 1} }
	for name, c := range map[string]struct{ runs, want []Run }{
		"apart":              {[]Run{row(0, 0), row(256, 64), row(512, 128)}, []Run{{0, 0, 64, 256, 3}}},
		"without gaps":       {[]Run{row(0, 0), row(64, 64), row(128, 128)}, []Run{{0, 0, 192, 0, 1}}},
		"uneven":             {[]Run{row(0, 0), row(256, 64), row(384, 128)}, []Run{{0, 0, 64, 256, 2}, row(384, 128)}},
		"gap in the buffer":  {[]Run{row(0, 0), row(256, 128)}, []Run{row(0, 0), row(256, 128)}},
		"backwards":          {[]Run{row(256, 0), row(0, 64)}, []Run{row(256, 0), row(0, 64)}},
		"other bytes":        {[]Run{row(0, 0), {256, 64, 32, 0, 1}}, []Run{row(0, 0), {256, 64, 32, 0, 1}}},
		"rows and rows":      {[]Run{{0, 0, 64, 128, 4}, {512, 256, 64, 128, 4}}, []Run{{0, 0, 64, 128, 8}}},
		"rows of other ones": {[]Run{{0, 0, 64, 128, 4}, {512, 256, 64, 256, 4}}, []Run{{0, 0, 64, 128, 4}, {512, 256, 64, 256, 4}}},
		"too far":            {[]Run{row(0, 0), row(2<<30, 64)}, []Run{row(0, 0), row(2<<30, 64)}},
	} {
		if got := join(slices.Clone(c.runs), 0); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestDeviceIsBehindWithWhatItMayDo: a device is not to blame for a group of which it may not copy all yet.
func TestDeviceIsBehindWithWhatItMayDo(t *testing.T) {
	e := newStepped(t, []int{0, 0}, 8, 8192, 1024, true).engines[0]
	it := &e.ring[4]
	e.head, e.settled, e.next = 4, 4, 6
	for _, c := range []struct {
		item         item
		open, opened uint32
		want         bool
	}{
		{item{filling: true, together: 5}, 4, 4, false},
		{item{filling: true, together: 5}, 5, 4, true},
		{item{filling: true, together: 4}, 4, 4, true},
		{item{draining: true, together: 5}, 9, 5, false},
		{item{draining: true, together: 5}, 9, 6, true},
		{item{draining: true, together: 4}, 9, 5, true},
		{item{together: 4}, 9, 6, false},
	} {
		*it, e.opened = c.item, c.opened
		it.seq = 4
		e.device.raise(Open, c.open)
		if got := e.deviceBehind(); got != c.want {
			t.Errorf("%+v with Open %d, results up to %d: behind %t, want %t", c.item, c.open, c.opened-1, got, c.want)
		}
	}
}

// TestHeldDeviceNeedsWhoHoldsIt: a rank whose device may not fill a group yet waits for the ranks that keep it from that, and for
// nobody who is kept from it as well.
func TestHeldDeviceNeedsWhoHoldsIt(t *testing.T) {
	e := newStepped(t, []int{0, 0, 0}, 8, 8192, 1024, true).engines[1]
	e.head, e.settled, e.next, e.device.ahead = 12, 12, 13, 2
	e.ring[4] = item{seq: 12, slot: 4, filling: true, together: 13, shards: 3, out: true, own: []Shard{NewShard(true, false, true, 0)}}
	for name, c := range map[string]struct {
		done, copied [3]uint32
		open         uint32
		want         []Need
	}{
		"slots": {[3]uint32{4, 11, 11}, [3]uint32{11, 11, 11}, 12, []Need{{0, ForSlot}}},
		"ahead": {[3]uint32{10, 11, 9}, [3]uint32{11, 11, 10}, 12, []Need{{2, ForInput}}},
		"done":  {[3]uint32{11, 11, 11}, [3]uint32{}, 13, []Need{{0, ForInput}, {2, ForInput}}}, // nobody holds it
	} {
		for l := range c.done {
			atomic.StoreUint32(e.mem.doneWord(l), c.done[l])
			atomic.StoreUint32(e.mem.deviceWord(l, Copied), c.copied[l])
		}
		e.device.raise(Open, c.open)
		if got := e.stalled(); !slices.Equal(got.Needs, c.want) || got.Device != (name == "done") {
			t.Errorf("%s: needs %v, its device %t; want %v", name, got.Needs, got.Device, c.want)
		}
	}
}
