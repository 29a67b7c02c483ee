// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"strings"
	"testing"
)

func TestVerifyFindsEveryBreakage(t *testing.T) {
	l := layout(t, 4, 0, 0, 1, 2, 1, 3, 2, 3, 0, 4)
	for _, b := range append(itemBreakages, treeBreakages...) {
		t.Run(b.name, func(t *testing.T) {
			p := NewPlan(l, b.collective, 40000, 4, l.Nodes[1][1])
			for slots := 1; slots <= 4; slots++ {
				m := newModel(l, &p, 16*KiB)
				if _, err := verify(l, &p, m, slots, nil); err != nil {
					t.Fatalf("unbroken: %v", err)
				}
				b.apply(l, &m)
				expectError(t, &b, l, &p, m, slots, nil)
				for seed := range uint64(20) {
					expectError(t, &b, l, &p, m, slots, picker(seed))
				}
			}
		})
	}
}

func expectError(t *testing.T, b *breakage, l *Layout, p *Plan, m model, slots int, pick func(int) int) {
	t.Helper()
	_, err := verify(l, p, m, slots, pick)
	if err == nil {
		t.Fatalf("%d slots: not found", slots)
	}
	for _, want := range b.want {
		if strings.Contains(err.Error(), want) {
			return
		}
	}
	t.Fatalf("%d slots: found as %q, want one of %q", slots, err, b.want)
}

// A slot that is never freed stops the ring after as many items as there are
// slots: the deadlock is found whatever the number is, and named.
func TestVerifyFindsALeakedSlot(t *testing.T) {
	l := even(t, 4, 1)
	p := NewPlan(l, AllReduce, 64*KiB, 4, 0)
	for slots := 1; slots < int(p.ItemCount(4*KiB)); slots++ {
		s := newSimulation(l, &p, newModel(l, &p, 4*KiB), slots, nil)
		s.nodes[2].ring[slots-1].busy = true
		err := s.run()
		if err == nil || !strings.Contains(err.Error(), "deadlock") {
			t.Errorf("%d slots: error %v, want a deadlock", slots, err)
		}
	}
}

func TestDeadlockNamesWhatIsAwaited(t *testing.T) {
	tests := []struct {
		name       string
		collective Collective
		root       int
		leak       int // node with a leaked slot
		want       string
	}{
		{"child", Reduce, 0, 1, "shard 0 waits for child 1"},
		{"parent", Broadcast, 1, 1, "shard 0 waits for parent 1"},
		{"grant", Broadcast, 0, 1, "shard 0 waits for a grant"},
		{"slot", Broadcast, 0, 0, "it never started"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			l := even(t, 2, 1)
			p := NewPlan(l, tc.collective, 64*KiB, 4, tc.root)
			s := newSimulation(l, &p, newModel(l, &p, 4*KiB), 1, nil)
			s.nodes[tc.leak].ring[0].busy = true
			want := "node 0 never finishes item 0 (flow 0 bytes [0,4096)): " + tc.want
			if err := s.run(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one with %q", err, want)
			}
		})
	}
}

// A message may come when its receiver has done without it and gone on.
func TestVerifyFindsALateMessage(t *testing.T) {
	l := even(t, 5, 1) // node 2 has children 1 and 3, and ignores 1
	p := NewPlan(l, Reduce, 4*KiB, 4, 0)
	m := newModel(l, &p, 4*KiB)
	m.children = func(f Flow, v int) ([2]int, int) {
		if v == 2 {
			return [2]int{3}, 1
		}
		return f.Tree.Children(v)
	}
	late := 0
	for seed := range uint64(100) {
		_, err := verify(l, &p, m, 1, picker(seed))
		if err == nil {
			t.Fatalf("seed %d: not found", seed)
		}
		if strings.Contains(err.Error(), "node 1 sends item 0 to node 2, which has finished it") {
			late++
		}
	}
	if late == 0 {
		t.Error("in no order of events did the message come late")
	}
}

// Messages that no tree makes: the same one again, and a result before the sum.
func TestVerifyFindsForgedMessages(t *testing.T) {
	tests := []struct {
		name       string
		collective Collective
		forge      func(m message) (message, bool) // from one that may arrive now
	}{
		{"up again", AllReduce, func(m message) (message, bool) { return m, !m.down }},
		{"up again without down", Reduce, func(m message) (message, bool) { return m, true }},
		{"down again", AllReduce, func(m message) (message, bool) { return m, m.down }},
		{"down again without up", AllGather, func(m message) (message, bool) { return m, true }},
		{"down before up", AllReduce, func(m message) (message, bool) {
			waits := m.item.Flow == 0 && m.to == 2 && !m.down // node 2 waits for a child, and its parent 4
			m.from, m.down = 4, true
			return m, waits
		}},
		{"up where only down is", Broadcast, func(m message) (message, bool) {
			m.from, m.to, m.down = m.to, m.from, false
			return m, true
		}},
		{"a shard too many", Reduce, func(m message) (message, bool) {
			m.shard++
			return m, true
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			outOfPlace := 0
			for seed := range uint64(20) {
				err := runForged(layout(t, 0, 1, 2, 3, 4), tc.collective, seed, tc.forge)
				if err == nil {
					t.Fatalf("seed %d: not found", seed)
				}
				if strings.Contains(err.Error(), "does not expect it") || strings.Contains(err.Error(), "has finished it") {
					outOfPlace++
				}
			}
			// In some orders a forged message passes and only its content is wrong.
			if outOfPlace == 0 {
				t.Error("in no order of events was the message itself refused")
			}
		})
	}
}

// runForged simulates a collective and puts one forged message among the others.
func runForged(l *Layout, c Collective, seed uint64, forge func(message) (message, bool)) error {
	p := NewPlan(l, c, 8*KiB, 4, 0)
	choose, forged := picker(seed), false
	var s *simulation
	s = newSimulation(l, &p, newModel(l, &p, 4*KiB), 8, func(n int) int {
		for i := 0; i < len(s.ready) && !forged; i++ {
			var m message
			if m, forged = forge(s.ready[i]); forged {
				s.ready = append(s.ready, m)
			}
		}
		return choose(n)
	})
	return s.run()
}

func TestTile(t *testing.T) {
	blocks := []piece{{lo: 0, hi: 10}, {lo: 20, hi: 30}}
	tests := []struct {
		name    string
		wanted  []piece
		written []piece
		want    string // empty: right
	}{
		{"right", blocks, []piece{{lo: 0, hi: 4}, {lo: 4, hi: 10}, {lo: 20, hi: 30}}, ""},
		{"nothing", nil, nil, ""},
		{"empty block", []piece{{}}, nil, ""},
		{"gap", blocks, []piece{{lo: 0, hi: 4}, {lo: 5, hi: 10}, {lo: 20, hi: 30}}, "byte 4 is never"},
		{"nothing written", blocks, nil, "byte 0 is never"},
		{"end missing", blocks, []piece{{lo: 0, hi: 10}, {lo: 20, hi: 29}}, "byte 29 is never"},
		{"overlap", blocks, []piece{{lo: 0, hi: 5}, {lo: 4, hi: 10}, {lo: 20, hi: 30}}, "byte 4 is written twice"},
		{"twice", blocks, []piece{{lo: 0, hi: 10}, {lo: 0, hi: 10}, {lo: 20, hi: 30}}, "byte 0 is written twice"},
		{"beyond a block", blocks, []piece{{lo: 0, hi: 12}, {lo: 20, hi: 30}}, "bytes 10 to 11 must not"},
		{"between blocks", blocks, []piece{{lo: 0, hi: 10}, {lo: 12, hi: 13}, {lo: 20, hi: 30}}, "byte 12 is written twice or must not"},
		{"after the end", blocks, []piece{{lo: 0, hi: 10}, {lo: 20, hi: 30}, {lo: 30, hi: 31}}, "byte 30 is written twice or must not"},
		{"not wanted", nil, []piece{{lo: 0, hi: 1}}, "byte 0 is written twice or must not"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := tile(tc.wanted, tc.written)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}
