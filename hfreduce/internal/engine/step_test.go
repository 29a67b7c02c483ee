// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// position is one node of a simulated tree.
type position struct {
	shard  Shard
	tree   schedule.Tree
	node   int
	value  uint64    // set of nodes whose contribution is in the partial sum or result
	got    [3]uint64 // what has arrived from each neighbour
	result bool      // published
}

// message is on its way to a neighbour of the sender.
type message struct {
	to    int
	from  Neighbour // as the receiver sees the sender
	value uint64
	ack   func()
}

// TestShardAnyOrder runs one shard over a whole tree, with every event in random order, and follows whose contributions
// are in each sum.
func TestShardAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 24).Draw(t, "nodes")
		up := rapid.Bool().Draw(t, "up")
		down := !up || rapid.Bool().Draw(t, "down")
		tree := schedule.Rotated(n, rapid.IntRange(0, n-1).Draw(t, "root"))
		ps := newPositions(tree, up, down)
		var wire []message
		for steps := 0; ; steps++ {
			if steps > 100*n+100 {
				t.Fatalf("no end after %d events", steps)
			}
			v := rapid.IntRange(0, n-1).Draw(t, "node")
			switch rapid.IntRange(0, 3).Draw(t, "event") {
			case 0:
				ps[v].shard.InputsReady()
			case 1:
				if len(wire) > 0 {
					wire = deliver(ps, wire, rapid.IntRange(0, len(wire)-1).Draw(t, "message"))
				}
			default:
				wire = append(wire, ps[v].act(uint8(rapid.IntRange(0, 7).Draw(t, "granted")))...)
			}
			if quiet(ps, wire) {
				break
			}
			if steps == 50*n { // from here on nothing is held back, so that it must end
				for _, p := range ps {
					p.shard.InputsReady()
				}
				for !quiet(ps, wire) {
					before := len(wire)
					for len(wire) > 0 {
						wire = deliver(ps, wire, 0)
					}
					acted := false
					for _, p := range ps {
						out := p.act(7)
						acted = acted || len(out) > 0
						wire = append(wire, out...)
					}
					if !acted && before == 0 && !quiet(ps, wire) {
						t.Fatal("stuck with everything delivered and granted")
					}
				}
				break
			}
		}
		checkOutcome(t, ps, up, down)
	})
}

func newPositions(tree schedule.Tree, up, down bool) []*position {
	ps := make([]*position, tree.Nodes())
	for v := range ps {
		_, children := tree.Children(v)
		ps[v] = &position{tree: tree, node: v, shard: NewShard(up, down, tree.Parent(v) < 0, children)}
		if up || v == tree.Root() {
			ps[v].value = 1 << v
		}
	}
	return ps
}

// act takes actions until the shard waits.
func (p *position) act(granted uint8) (out []message) {
	child, _ := p.tree.Children(p.node)
	for {
		a := p.shard.Next(granted)
		switch a {
		case Wait:
			return out
		case Reduce:
			p.value += p.got[Child0] + p.got[Child1] // + carries into other bits when something is added twice
		case PostUp:
			parent := p.tree.Parent(p.node)
			side := Child0
			if c, n := p.tree.Children(parent); n > 1 && c[1] == p.node {
				side = Child1
			}
			out = append(out, message{parent, side, p.value, func() { p.shard.Sent(Parent) }})
		case PostDown0, PostDown1:
			c := Neighbour(a - PostDown0)
			out = append(out, message{child[c], Parent, p.outcome(), func() { p.shard.Sent(c) }})
		case Publish:
			p.result = true
		}
	}
}

// outcome is the final value as this node knows it.
func (p *position) outcome() uint64 {
	if p.tree.Parent(p.node) < 0 {
		return p.value
	}
	return p.got[Parent]
}

func deliver(ps []*position, wire []message, i int) []message {
	m := wire[i]
	ps[m.to].got[m.from] = m.value
	ps[m.to].shard.Arrived(m.from)
	m.ack()
	return append(wire[:i:i], wire[i+1:]...)
}

func quiet(ps []*position, wire []message) bool {
	for _, p := range ps {
		if !p.shard.Complete() {
			return false
		}
	}
	return len(wire) == 0
}

func checkOutcome(t *rapid.T, ps []*position, up, down bool) {
	all := uint64(1)<<len(ps) - 1
	if !up {
		all = 1 << ps[0].tree.Root()
	}
	for _, p := range ps {
		if p.tree.Parent(p.node) >= 0 && !down {
			if p.result {
				t.Fatalf("node %d published in a flow that only goes up", p.node)
			}
			continue
		}
		if !p.result || p.outcome() != all {
			t.Fatalf("node %d: published %v, contributions %b, want %b", p.node, p.result, p.outcome(), all)
		}
	}
}

func TestShardWaitsForGrant(t *testing.T) {
	s := NewShard(true, true, false, 1)
	s.InputsReady()
	s.Arrived(Child0)
	steps := []struct {
		granted uint8
		want    Action
	}{{0, Reduce}, {0, Wait}, {1 << Parent, PostUp}, {7, Wait}}
	for i, st := range steps {
		if got := s.Next(st.granted); got != st.want {
			t.Fatalf("step %d: action %d, want %d", i, got, st.want)
		}
	}
	s.Sent(Parent)
	s.Arrived(Parent)
	if got := s.Next(0); got != Publish {
		t.Fatalf("a result must be published although the child has no slot: action %d", got)
	}
	if s.Complete() {
		t.Fatal("complete before the result went to the child")
	}
	if got := s.Next(1 << Child0); got != PostDown0 {
		t.Fatalf("action %d, want PostDown0", got)
	}
	if s.Complete() {
		t.Fatal("complete before the post completed")
	}
	s.Sent(Child0)
	if !s.Complete() {
		t.Fatal("not complete after everything is sent")
	}
}

// TestPairShardAnyOrder runs a shard of two nodes with every event in random order: each sends what it has before it is
// overwritten by the sum of both.
func TestPairShardAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type side struct {
			Shard
			value             int // 0 before Reduce, 1 partial, 2 combined
			unsent, published bool
		}
		sides := [2]*side{{Shard: NewPairShard()}, {Shard: NewPairShard()}}
		for steps := 0; !sides[0].Complete() || !sides[1].Complete(); steps++ {
			if steps > 1000 {
				t.Fatal("no end")
			}
			i := rapid.IntRange(0, 1).Draw(t, "side")
			me, other := sides[i], sides[1-i]
			switch rapid.IntRange(0, 3).Draw(t, "event") {
			case 0:
				me.InputsReady()
			case 1:
				if me.unsent {
					me.unsent = false
					me.Sent(Parent)
					other.Arrived(Child0)
				}
			default:
				granted := uint8(rapid.IntRange(0, 1).Draw(t, "granted")) << Parent
				switch a := me.Next(granted); {
				case a == Wait:
				case a == Reduce && me.value == 0:
					me.value = 1
				case a == PostUp && me.value == 1 && granted != 0:
					me.unsent = true
				case a == Combine && me.value == 1 && !me.unsent && me.arrived != 0:
					me.value = 2
				case a == Publish && me.value == 2 && !me.published:
					me.published = true
				default:
					t.Fatalf("action %d with %+v", a, me)
				}
			}
		}
		if !sides[0].published || !sides[1].published {
			t.Fatal("complete without being published")
		}
	})
}

// TestRingAcrossTheWrap: numbers of items wrap, and as many of them as there are slots have different slots all the same.
func TestRingAcrossTheWrap(t *testing.T) {
	layout, err := schedule.NewLayout([]int{0})
	if err != nil {
		t.Fatal(err)
	}
	for slots := 1; slots <= 16; slots++ {
		g := NewGeometry(1, 1, slots, 4096, 0, schedule.Exchange{})
		_, err := New(Config{Layout: &layout, Geometry: g, Base: make([]byte, g.Bytes())})
		tr := Transfers{geometry: g}
		met := map[int]bool{}
		for i := range uint32(slots) {
			met[tr.slot(^uint32(0)-uint32(slots)/2+i)] = true
		}
		if apart := len(met) == slots; apart != (err == nil) {
			t.Errorf("%d slots: items apart across the wrap: %t; New: %v", slots, apart, err)
		}
	}
}
