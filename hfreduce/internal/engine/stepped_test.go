// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/mem"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// stepped is a world of engines on one goroutine: the test says who looks for work next, and sees all that they know in between.
type stepped struct {
	layout  schedule.Layout
	engines []*Engine
	ops     []*Op
	devices []*standIn
	inputs  [][]byte // what each rank gives, and where its output arrives: of the collective at hand
	outputs [][]byte
	posts   []posted // of the collective at hand
}

// posted is a message whose bytes have landed, since links are in memory.
type posted struct {
	from, to     int
	landing, seq uint32
	bytes        int
	pair         bool
}

// spiedLink notes what is posted.
type spiedLink struct {
	transport.Link
	world *stepped
	from  *Engine
}

func (l *spiedLink) Post(m transport.Message) error {
	err := l.Link.Post(m)
	if err == nil {
		slot := m.Seq % uint32(l.from.mem.slots)
		pair := m.Landing < l.from.exchanges && l.from.ring[slot].flow.Pair
		l.world.posts = append(l.world.posts, posted{l.from.cfg.Rank, l.Peer(), m.Landing, m.Seq, len(m.Payload), pair})
	}
	return err
}

// newStepped returns a world with checksums, in which ranks may have devices.
func newStepped(t *testing.T, nodeOf []int, slots int, chunk, flat int64, devices bool) *stepped {
	t.Helper()
	layout, err := schedule.NewLayout(nodeOf)
	if err != nil {
		t.Fatal(err)
	}
	w := &stepped{layout: layout, engines: make([]*Engine, len(nodeOf)), ops: make([]*Op, len(nodeOf)), devices: make([]*standIn, len(nodeOf)), inputs: make([][]byte, len(nodeOf)), outputs: make([][]byte, len(nodeOf))}
	for _, ranks := range layout.Nodes {
		g := NewGeometry(len(ranks), layout.Shards(), slots, chunk, flat, schedule.NewExchange(&layout)).WithChecksums()
		if devices {
			g = g.WithDevices()
		}
		base, bells := make([]byte, g.Bytes()), make([]wait.Bell, len(ranks))
		for i := range bells {
			bells[i] = wait.NewChan()
		}
		for _, r := range ranks {
			if w.engines[r], err = New(Config{Layout: &w.layout, Rank: r, Geometry: g, Base: base, Bells: bells, OnDrain: func() {}}); err != nil {
				t.Fatal(err)
			}
			w.devices[r] = &standIn{e: w.engines[r]}
		}
	}
	network := mem.NewNetwork(len(nodeOf))
	for a := range nodeOf {
		for b := range a {
			if nodeOf[a] != nodeOf[b] {
				w.connect(t, network, a, b)
			}
		}
	}
	return w
}

func (w *stepped) connect(t *testing.T, network *mem.Network, a, b int) {
	t.Helper()
	made := make(chan error, 1)
	dial := func(self, peer int) error {
		e := w.engines[self]
		l, err := network.Transport(self).Connect(t.Context(), peer, "link", e.LinkConfig())
		if err == nil {
			e.AddLink(peer, &spiedLink{l, w, e})
		}
		return err
	}
	go func() { made <- dial(a, b) }()
	if err := dial(b, a); err != nil {
		t.Fatal(err)
	}
	if err := <-made; err != nil {
		t.Fatal(err)
	}
}

// begin begins a collective of int32 on all ranks; bytes is as schedule.NewPlan takes it.
func (w *stepped) begin(rng *rand.Rand, c schedule.Collective, bytes int64, root int) {
	w.posts = w.posts[:0]
	plan := schedule.NewPlan(&w.layout, c, bytes, 4, root)
	all := bytes * int64(len(w.engines))
	for r, e := range w.engines {
		op := &Op{Plan: plan, Spec: kernel.Spec{DType: kernel.Int32}, Tag: rng.Uint32(), Bytes: bytes, SrcShare: NotShared, DstShare: NotShared}
		if op.Tag = 7; c == schedule.ReduceScatter {
			op.Src, op.In, op.Dst, op.Out = random(rng, all), Blocks, make([]byte, bytes), Own
		} else if c == schedule.AllGather {
			op.Src, op.In, op.Dst, op.Out = random(rng, bytes), Own, make([]byte, all), Blocks
		} else {
			op.Src, op.In, op.Dst, op.Out = random(rng, bytes), Whole, make([]byte, bytes), Whole
			if c == schedule.Reduce && r != root {
				op.Out, op.Dst = Nowhere, nil
			}
			if c == schedule.Broadcast && r != root {
				op.In, op.Src = Nowhere, nil
			}
		}
		w.inputs[r], w.outputs[r] = op.Src, op.Dst
		if w.ops[r] = op; e.device != nil {
			w.devices[r].take(op, op.In != Nowhere && rng.IntN(2) == 0, op.Out != Nowhere && rng.IntN(2) == 0)
		}
		e.start(op)
	}
}

func random(rng *rand.Rand, bytes int64) []byte {
	b := make([]byte, bytes)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// run lets random ranks look for work until all are through or one fails. It calls between before each look.
func (w *stepped) run(t *testing.T, rng *rand.Rand, between func()) error {
	t.Helper()
	done, left := make([]bool, len(w.engines)), len(w.engines)
	for looks := 0; left > 0; looks++ {
		if looks > 1_000_000 {
			t.Fatalf("%d ranks are not through after %d looks", left, looks)
		}
		r := rng.IntN(len(w.engines))
		if done[r] {
			continue
		}
		w.devices[r].step()
		between()
		e := w.engines[r]
		if _, err := e.advance(rng.IntN(4) == 0); err != nil {
			return err
		}
		if e.finished() {
			done[r] = true
			left--
		}
	}
	for r, e := range w.engines {
		for e.op = nil; e.Draining(); {
			w.devices[r].step()
			if _, err := e.advance(false); err != nil {
				return err
			}
		}
	}
	return nil
}

// standIn copies for a rank as a device does.
type standIn struct {
	e             *Engine
	bounced       uint32
	fills, drains []copies
	filling       func(n uint32) // nil, or called before the device fills an item
}

// copies are those of one item, or of one small reduction, between the flags of one direction.
type copies struct {
	n          uint32
	wait, done DeviceFlag
	buffer     []byte
	runs       []Run
}

// take makes a collective one that the device fills, or drains.
func (d *standIn) take(op *Op, fills, drains bool) {
	t := d.e.Transfers()
	src, dst := op.Src, op.Dst
	if op.Filled, op.Drained = fills, drains; !fills && !drains {
		return
	}
	if t.Short(op.Plan.Collective, op.Bytes) {
		d.bounced++
		op.Bounce = d.bounced
		in, out := t.BounceAt(d.bounced)
		none, input, output := []byte(nil), []Run{{Segment: in, Bytes: op.Bytes, Rows: 1}}, []Run{{Segment: out, Bytes: op.Bytes, Rows: 1}}
		if !fills {
			input, src = nil, none
		} else {
			op.Src = d.e.mem.base[in : in+op.Bytes]
		}
		if !drains {
			output, dst = nil, none
		} else {
			op.Dst = d.e.mem.base[out : out+op.Bytes]
		}
		d.fills = append(d.fills, copies{d.bounced, BounceOpen, BounceCopied, src, input})
		d.drains = append(d.drains, copies{d.bounced, BounceResult, BounceDrained, dst, output})
		return
	}
	j := Job{Route: Route{Plan: op.Plan, Elem: 4, In: op.In, Out: op.Out}, First: d.e.next, Chunk: d.e.mem.chunk, Fills: fills, Drains: drains}
	j.Items = uint32(op.Plan.ItemCount(j.Chunk))
	t.Program(&j, nil, func(s *Step) {
		switch {
		case len(s.Runs) == 0:
		case s.Drain:
			d.drains = append(d.drains, copies{s.Seq, Result, Drained, dst, slices.Clone(s.Runs)})
		default:
			d.fills = append(d.fills, copies{s.Seq, Open, Copied, src, slices.Clone(s.Runs)})
		}
	})
	if fills {
		op.Src = nil
	}
	if drains {
		op.Dst = nil
	}
}

// step makes the copies that the device may make now.
func (d *standIn) step() {
	if len(d.fills) > 0 && d.e.device.reached(d.fills[0].wait, d.fills[0].n) {
		c := d.fills[0]
		if d.filling != nil && c.wait == Open {
			d.filling(c.n)
		}
		c.move(d.e.mem.base, func(segment, buffer []byte) { copy(segment, buffer) })
		atomic.StoreUint32(d.e.device.word(c.done), c.n)
		d.fills = d.fills[1:]
	}
	if len(d.drains) > 0 && d.e.device.reached(d.drains[0].wait, d.drains[0].n) {
		c := d.drains[0]
		c.move(d.e.mem.base, func(segment, buffer []byte) { copy(buffer, segment) })
		atomic.StoreUint32(d.e.device.word(c.done), c.n)
		d.drains = d.drains[1:]
	}
}

// move calls f with each row in the segment and in the buffer.
func (c *copies) move(base []byte, f func(segment, buffer []byte)) {
	for _, r := range c.runs {
		for row := range int64(r.Rows) {
			segment, buffer := r.Segment+row*r.Stride, r.Buffer+row*r.Bytes
			f(base[segment:segment+r.Bytes], c.buffer[buffer:buffer+r.Bytes])
		}
	}
}
