// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"container/heap"
	"fmt"
	"testing"
)

// timing plays a plan through in time, as the engine does it: an item is begun in order, when one of the node's slots is free;
// a node sends one message after the other, and so receives; a message goes when its receiver has begun the item. Times are
// in units of a full item's way through a node's port.
type timing struct {
	plan         *Plan
	nodes        int
	slots        int
	latency, add float64

	now    float64
	events events
	number int // of events so far
	node   []timedNode
	items  []Item
	flows  []Flow
}

type timedNode struct {
	begun, ended int
	state        map[int]*timedItem
	over         map[int]bool // items that ended before an older one
	out          []timedMessage
	sending      bool
	received     float64 // until when the receiving port is busy
	waiting      []timedMessage
}

type timedItem struct {
	missing int // children's partial sums, and the own input
	unsent  int
	result  bool
}

type timedMessage struct {
	from, to, item int
	down           bool
}

type event struct {
	at     float64
	number int
	do     func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].number < e[j].number
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// play returns how long a plan of items full items takes.
func play(t *testing.T, l *Layout, c Collective, items, slots int, latency, add float64) float64 {
	t.Helper()
	const chunk = 1 << 20
	bytes := int64(items * chunk)
	if c.blocked() {
		bytes /= int64(l.NodeCount())
	}
	plan := NewPlan(l, c, bytes, 4, 0)
	p := &timing{plan: &plan, nodes: l.NodeCount(), slots: slots, latency: latency, add: add, node: make([]timedNode, l.NodeCount())}
	for cursor := plan.Items(chunk); ; {
		item, ok := cursor.Next()
		if !ok {
			break
		}
		p.items, p.flows = append(p.items, item), append(p.flows, plan.Flow(item.Flow))
	}
	for v := range p.node {
		p.node[v].state, p.node[v].over = map[int]*timedItem{}, map[int]bool{}
	}
	for v := range p.node {
		p.begin(v)
	}
	for len(p.events) > 0 {
		e := heap.Pop(&p.events).(event)
		p.now = e.at
		e.do()
	}
	for v := range p.node {
		if p.node[v].ended != len(p.items) {
			t.Fatalf("%v on %d nodes with %d slots: node %d has ended %d of %d items", c, p.nodes, slots, v, p.node[v].ended, len(p.items))
		}
	}
	return p.now
}

func (p *timing) after(d float64, do func()) {
	p.number++
	heap.Push(&p.events, event{p.now + d, p.number, do})
}

// size returns what an item takes in a port.
func (p *timing) size(q int) float64 { return float64(p.items[q].Bytes()) / (1 << 20) }

// begin begins the items that have a slot.
func (p *timing) begin(v int) {
	n := &p.node[v]
	for n.begun < len(p.items) && n.begun-n.ended < p.slots {
		q := n.begun
		n.begun++
		f := &p.flows[q]
		_, children := f.Tree.Children(v)
		it := &timedItem{missing: 1}
		n.state[q] = it
		if f.Up {
			it.missing += children
			p.after(p.add*p.size(q), func() { p.given(v, q) })
		} else if f.Tree.Parent(v) < 0 {
			p.after(p.add*p.size(q), func() { p.result(v, q) })
		}
		rest := n.waiting[:0]
		for _, m := range n.waiting {
			if m.item == q {
				p.send(m)
			} else {
				rest = append(rest, m)
			}
		}
		n.waiting = rest
	}
}

// given notes one of the inputs of a sum.
func (p *timing) given(v, q int) {
	it, f := p.node[v].state[q], &p.flows[q]
	if it.missing--; it.missing > 0 {
		return
	}
	if parent := f.Tree.Parent(v); parent >= 0 {
		p.post(it, timedMessage{from: v, to: parent, item: q})
		if !f.Down {
			it.result = true
		}
		return
	}
	p.result(v, q)
}

// result sends what a node has from its parent, or as the root, to its children.
func (p *timing) result(v, q int) {
	it, f := p.node[v].state[q], &p.flows[q]
	it.result = true
	if children, n := f.Tree.Children(v); f.Down {
		for _, c := range children[:n] {
			p.post(it, timedMessage{v, c, q, true})
		}
	}
	p.check(v, q)
}

func (p *timing) post(it *timedItem, m timedMessage) {
	it.unsent++
	if to := &p.node[m.to]; to.begun <= m.item {
		to.waiting = append(to.waiting, m)
		return
	}
	p.send(m)
}

// send gives a message to the node's port, where older items go first.
func (p *timing) send(m timedMessage) {
	n := &p.node[m.from]
	at := len(n.out)
	for at > 0 && n.out[at-1].item > m.item {
		at--
	}
	n.out = append(n.out, timedMessage{})
	copy(n.out[at+1:], n.out[at:])
	n.out[at] = m
	p.next(m.from)
}

func (p *timing) next(v int) {
	n := &p.node[v]
	if n.sending || len(n.out) == 0 {
		return
	}
	m := n.out[0]
	n.out, n.sending = n.out[1:], true
	p.after(p.size(m.item), func() {
		n.sending = false
		n.state[m.item].unsent--
		to := &p.node[m.to]
		to.received = max(p.now+p.latency, to.received+p.size(m.item))
		p.after(to.received-p.now, func() {
			if m.down {
				p.result(m.to, m.item)
			} else {
				p.given(m.to, m.item)
			}
		})
		p.check(v, m.item)
		p.next(v)
	})
}

// check ends an item of which nothing is left to do.
func (p *timing) check(v, q int) {
	n := &p.node[v]
	if it := n.state[q]; !it.result || it.unsent > 0 {
		return
	}
	delete(n.state, q)
	n.over[q] = true
	for n.over[n.ended] {
		delete(n.over, n.ended)
		n.ended++
	}
	p.begin(v)
}

// TestSlotsAreEnough: with the default number of slots no collective takes much longer than with as many as it has items, from a
// pair of nodes to hundreds, whether a hop costs little beside an item's own time or as much. A quarter of it would not do.
func TestSlotsAreEnough(t *testing.T) {
	sizes := []int{2, 3, 4, 8, 9, 16, 17, 64, 180}
	if testing.Short() {
		sizes = sizes[:7]
	}
	for _, n := range sizes {
		nodeOf := make([]int, n)
		for v := range nodeOf {
			nodeOf[v] = v
		}
		l, err := NewLayout(nodeOf)
		if err != nil {
			t.Fatal(err)
		}
		slots := Slots(n)
		line := fmt.Sprintf("%3d nodes, %2d slots:", n, slots)
		for _, c := range []Collective{AllReduce, Broadcast, Reduce, ReduceScatter, AllGather} {
			items := 4 * slots
			if c.blocked() {
				items = max(items, n) / n * n
			}
			for _, hop := range []struct{ latency, add, most float64 }{{0.25, 0.25, 1.06}, {1, 0.5, 1.12}} {
				if c == AllGather { // all flows have results under way, which come in other orders on other nodes
					hop.most += 0.22
				}
				free := play(t, &l, c, items, items*2, hop.latency, hop.add)
				mine := play(t, &l, c, items, slots, hop.latency, hop.add)
				quarter := play(t, &l, c, items, max(1, slots/4), hop.latency, hop.add)
				line += fmt.Sprintf("  %v %.2f %.2f", c, free/mine, free/quarter)
				if mine > hop.most*free {
					t.Errorf("%v on %d nodes takes %.2f times as long with %d slots as with as many as it likes", c, n, mine/free, slots)
				}
				if c == AllReduce && quarter < 1.25*free {
					t.Errorf("%v on %d nodes takes only %.2f times as long with a quarter of %d slots", c, n, quarter/free, slots)
				}
			}
		}
		t.Log(line)
	}
}

func TestSlots(t *testing.T) {
	for n, want := range map[int]int{1: 4, 2: 4, 3: 8, 4: 8, 5: 16, 16: 16, 17: 32, 128: 32, 256: 32, 257: 64, 1024: 64} {
		if got := Slots(n); got != want {
			t.Errorf("%d nodes have %d slots, want %d", n, got, want)
		}
	}
}
