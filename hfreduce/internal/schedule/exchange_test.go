// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"testing"
)

// TestExchangeOrder follows the order of the sum on every node: each node's part once, and the same everywhere.
func TestExchangeOrder(t *testing.T) {
	for rounds := range 8 {
		n := 1 << rounds
		nodeOf := make([]int, 2*n)
		for r := range nodeOf {
			nodeOf[r] = r / 2
		}
		l, err := NewLayout(nodeOf)
		if err != nil {
			t.Fatal(err)
		}
		x := NewExchange(&l)
		if x.Rounds() != rounds {
			t.Fatalf("%d nodes: %d rounds", n, x.Rounds())
		}
		have, want := make([]string, n), ""
		for v := range have {
			have[v] = fmt.Sprint(v, " ")
			want += have[v]
		}
		for r := range rounds {
			next := make([]string, n)
			for v := range next {
				w, first := x.Partner(v, r)
				if back, f := x.Partner(w, r); back != v || f == first {
					t.Fatalf("round %d: node %d talks to %d (first: %t), which talks to %d (first: %t)", r, v, w, first, back, f)
				}
				if next[v] = have[v] + have[w]; first {
					next[v] = have[w] + have[v]
				}
			}
			have = next
		}
		for v, order := range have {
			if order != want {
				t.Fatalf("%d nodes: node %d adds %s", n, v, order)
			}
		}
	}
}

func TestExchangeNeedsEqualNodes(t *testing.T) {
	for _, c := range []struct {
		nodeOf []int
		rounds int
		bytes  int64
	}{
		{[]int{0, 0}, 0, 0}, {[]int{0, 1}, 1, 262144}, {[]int{0, 1, 2}, 0, 0}, {[]int{0, 1, 2, 3}, 2, 131072},
		{[]int{0, 0, 1, 1}, 1, 65536}, {[]int{0, 1, 0, 1}, 1, 65536}, {[]int{0, 0, 1}, 0, 0}, {[]int{0, 1, 1, 1}, 0, 0},
		{[]int{0, 0, 0, 1, 1, 1}, 1, 29120},
	} {
		l, err := NewLayout(c.nodeOf)
		if err != nil {
			t.Fatal(err)
		}
		x := NewExchange(&l)
		if x.Rounds() != c.rounds || x.MaxBytes() != c.bytes {
			t.Errorf("%v: %d rounds of %d bytes, want %d of %d", c.nodeOf, x.Rounds(), x.MaxBytes(), c.rounds, c.bytes)
		}
		for kind := range Barrier + 1 {
			small := c.rounds > 0 && (kind == AllReduce || kind == Barrier)
			large := c.rounds > 0 && kind == Barrier
			if x.Takes(kind, c.bytes) != small || x.Takes(kind, c.bytes+1) != large {
				t.Errorf("%v: %v of %d bytes: %t, one more: %t", c.nodeOf, kind, c.bytes, x.Takes(kind, c.bytes), x.Takes(kind, c.bytes+1))
			}
		}
	}
}
