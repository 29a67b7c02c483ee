// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"strings"
	"testing"
)

// TestExchangeOrder follows the order of the sum on every node: each node's part once, and the same everywhere; and who sends is
// who is waited for.
func TestExchangeOrder(t *testing.T) {
	for n := 2; n <= 200; n++ {
		nodeOf := make([]int, 2*n)
		for r := range nodeOf {
			nodeOf[r] = r / 2
		}
		l, err := NewLayout(nodeOf)
		if err != nil {
			t.Fatal(err)
		}
		x := NewExchange(&l)
		have, want := make([]string, n), ""
		for v := range have {
			have[v] = fmt.Sprint(v, " ")
			want += have[v]
		}
		for r := range x.Rounds() {
			next := make([]string, n)
			for v := range next {
				next[v] = have[v]
				s := x.Step(v, r)
				if s.Partner < 0 {
					if s.Sends || s.Takes {
						t.Fatalf("%d nodes, round %d: node %d does something with nobody", n, r, v)
					}
					continue
				}
				back := x.Step(s.Partner, r)
				if back.Partner != v || back.Takes != s.Sends || back.Sends != s.Takes || back.Result != s.Result || s.Sends && s.Takes && back.First == s.First {
					t.Fatalf("%d nodes, round %d: node %d: %+v, node %d: %+v", n, r, v, s, s.Partner, back)
				}
				for _, node := range []int{v, s.Partner} {
					if got, want := x.Parts(node, r), len(strings.Fields(have[node])); s.Takes && !s.Result && got != want {
						t.Fatalf("%d nodes, round %d: node %d has %d parts, want %d", n, r, node, got, want)
					}
				}
				switch theirs := have[s.Partner]; {
				case !s.Takes:
				case s.Result:
					next[v] = theirs
				case s.First:
					next[v] = theirs + have[v]
				default:
					next[v] = have[v] + theirs
				}
				if s.Sends && s.Result && have[v] != want {
					t.Fatalf("%d nodes, round %d: node %d has no result yet, but %s", n, r, v, have[v])
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
		{[]int{0, 0}, 0, 0}, {[]int{0, 1}, 1, 262144}, {[]int{0, 1, 2}, 3, 87360}, {[]int{0, 1, 2, 3}, 2, 131072},
		{[]int{0, 0, 1, 1}, 1, 65536}, {[]int{0, 1, 0, 1}, 1, 65536}, {[]int{0, 0, 1}, 0, 0}, {[]int{0, 1, 1, 1}, 0, 0},
		{[]int{0, 0, 0, 1, 1, 1}, 1, 29120}, {[]int{0, 1, 2, 3, 4, 5}, 4, 65536}, {[]int{0, 0, 1, 1, 2, 2}, 3, 21824},
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
