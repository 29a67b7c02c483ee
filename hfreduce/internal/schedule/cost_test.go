// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"testing"
)

// The closed forms of docs/algorithms.md, against the simulation.

// children returns the number of children as bytes count them.
func children(t Tree, v int) int64 {
	_, count := t.Children(v)
	return int64(count)
}

// closedForm returns what the document says that node v sends and receives in a
// collective of so many bytes (of a block, for ReduceScatter and AllGather).
func closedForm(l *Layout, c Collective, bytes int64, root, v int) (tx, rx int64) {
	n := l.NodeCount()
	d0, d1 := bytes, int64(0)
	if bytes >= 8192 && n > 1 {
		d0 = min(bytes, 64*((bytes+127)/128))
		d1 = bytes - d0
	}
	all, own := int64(l.WorldSize())*bytes, int64(l.LocalSize(v))*bytes
	switch c {
	case AllReduce:
		t := DoubleBinary(n)
		tx = d0*int64(degree(t[0], v)) + d1*int64(degree(t[1], v))
		return tx, tx
	case Reduce, Broadcast:
		t := RootedPair(n, l.NodeOf(root))
		many, once := d0*children(t[0], v)+d1*children(t[1], v), bytes
		if v == l.NodeOf(root) {
			once = 0
		}
		if c == Reduce {
			return once, many
		}
		return many, once
	case ReduceScatter, AllGather:
		var many int64
		for j := range n {
			many += int64(l.LocalSize(j)) * bytes * children(Rotated(n, j), v)
		}
		if c == ReduceScatter {
			return all - own, many
		}
		return many, all - own
	}
	return 0, 0
}

func TestClosedForms(t *testing.T) {
	layouts := []*Layout{even(t, 1, 3), even(t, 2, 2), even(t, 3, 1), even(t, 8, 2), even(t, 13, 1), layout(t, 0, 1, 2, 3, 4, 5, 6, 3, 3, 5)}
	for _, l := range layouts {
		for _, c := range everyCollective {
			for _, bytes := range []int64{0, 100, 8191, 8192, 8193, 50000} {
				t.Run(fmt.Sprintf("%d nodes/%v/%d", l.NodeCount(), c, bytes), func(t *testing.T) {
					root := l.WorldSize() / 2
					p := NewPlan(l, c, bytes, 1, root)
					r, err := Verify(l, &p, 16*KiB, 2)
					if err != nil {
						t.Fatal(err)
					}
					for v := range l.NodeCount() {
						if tx, rx := closedForm(l, c, bytes, root, v); r.Tx[v] != tx || r.Rx[v] != rx {
							t.Errorf("node %d sends %d and receives %d, want %d and %d", v, r.Tx[v], r.Rx[v], tx, rx)
						}
					}
				})
			}
		}
	}
}

// Bounds of the busiest node, on nodes of equal size.
func TestBusiestNode(t *testing.T) {
	for n := 4; n <= 40; n++ {
		l := even(t, n, 1)
		for _, bytes := range []int64{5000, 8192, 8200, 100000} {
			bound := map[Collective]int64{
				AllReduce: 2*bytes + 127, Reduce: bytes + 127, Broadcast: bytes + 127,
				ReduceScatter: int64(n-1) * bytes, AllGather: int64(n-1) * bytes, Barrier: 0,
			}
			if bytes < MinSplitBytes { // all on one tree: two children and, for AllReduce, a parent
				bound[AllReduce], bound[Reduce], bound[Broadcast] = 3*bytes, 2*bytes, 2*bytes
			}
			for _, c := range everyCollective {
				p := NewPlan(l, c, bytes, 4, n/2)
				r, err := Verify(l, &p, 64*KiB, 2)
				if err != nil {
					t.Fatal(err)
				}
				got := max(r.MaxTx(), r.MaxRx())
				if got > bound[c] || got < bound[c]-127 {
					t.Errorf("n=%d %v of %d bytes: the busiest node has %d, want %d or little less", n, c, bytes, got, bound[c])
				}
			}
		}
	}
}
