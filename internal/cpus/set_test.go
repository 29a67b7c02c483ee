// SPDX-License-Identifier: Apache-2.0

package cpus

import (
	"fmt"
	"slices"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for list, want := range map[string]string{"0-3,8\n": "0-3,8", "": "none", "5": "5", "1,2,3": "1-3", "0-1,64-65": "0-1,64-65"} {
		s, err := Parse(list)
		if err != nil || s.String() != want {
			t.Errorf("%q: got %v, %v", list, s, err)
		}
	}
	for _, list := range []string{"a", "3-1", "-1", "1-", "0-99999999"} {
		if s, err := Parse(list); err == nil {
			t.Errorf("%q: got %v, want an error", list, s)
		}
	}
}

func TestSetIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) ([]int, Set) {
			numbers := rapid.SliceOfN(rapid.IntRange(0, 200), 0, 20).Draw(t, name)
			s := Of(numbers...)
			slices.Sort(numbers)
			return slices.Compact(numbers), s
		}
		a, s := draw("a")
		b, u := draw("b")
		if got := s.Numbers(); !slices.Equal(got, a) || s.Count() != len(a) {
			t.Fatalf("%v holds %v, want %v", s, got, a)
		}
		if back, err := Parse(s.String()); len(a) > 0 && (err != nil || back != s) {
			t.Fatalf("%v read back is %v, %v", s, back, err)
		}
		for n := range 210 {
			inA, inB := slices.Contains(a, n), slices.Contains(b, n)
			if s.Union(u).Has(n) != (inA || inB) || s.Intersection(u).Has(n) != (inA && inB) {
				t.Fatalf("%d in %v and %v: union %v, intersection %v", n, s, u, s.Union(u), s.Intersection(u))
			}
		}
	})
}

// Shares of enough processors are disjoint, together all, and differ in size by one at most; of too few they are one
// processor each, all used equally.
func TestShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count, n := rapid.IntRange(1, 40).Draw(t, "cpus"), rapid.IntRange(1, 80).Draw(t, "ranks")
		var numbers []int
		for i := range count {
			numbers = append(numbers, 3*i)
		}
		all, uses := Of(numbers...), map[int]int{}
		for i := range n {
			share := all.Share(i, n)
			if least, most := max(1, count/n), max(1, (count+n-1)/n); share.Count() < least || share.Count() > most {
				t.Fatalf("%d of %d ranks on %d processors gets %v", i, n, count, share)
			}
			for _, cpu := range share.Numbers() {
				uses[cpu]++
			}
		}
		for _, cpu := range numbers {
			if uses[cpu] < max(1, n/count) || uses[cpu] > max(1, (n+count-1)/count) {
				t.Fatalf("%d ranks use processor %d of %d %d times", n, cpu, count, uses[cpu])
			}
		}
	})
}

func TestNUMA(t *testing.T) {
	file := func(list string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(list + "\n")} }
	sys := fstest.MapFS{
		"devices/system/node/node0/cpulist":  file("0-3,8-11"),
		"devices/system/node/node2/cpulist":  file(""), // memory only
		"devices/system/node/node10/cpulist": file("12-15"),
		"devices/system/node/node1/cpulist":  file("4-7"),
	}
	all, _ := Parse("0-15")
	nodes, err := NUMA(sys, all)
	if got := fmt.Sprint(nodes); err != nil || got != "[0-3,8-11 4-7 12-15]" {
		t.Errorf("got %v, %v", got, err)
	}
	if nodes, err = NUMA(sys, Of(4, 5)); err != nil || fmt.Sprint(nodes) != "[4-5]" {
		t.Errorf("of two processors: got %v, %v", nodes, err)
	}
	if nodes, err = NUMA(fstest.MapFS{}, all); err != nil || fmt.Sprint(nodes) != "[0-15]" {
		t.Errorf("without NUMA: got %v, %v", nodes, err)
	}
	for set, want := range map[string]int{"1,9": 0, "12-15": 10, "5": 1, "3-4": -1, "": -1} {
		s, _ := Parse(set)
		if got := NodeOf(sys, s); got != want {
			t.Errorf("node of processors %q: got %d, want %d", set, got, want)
		}
	}
}

func TestPlace(t *testing.T) {
	all, _ := Parse("0-7")
	nodes := []Set{Of(0, 1, 2, 3), Of(4, 5, 6, 7)}
	for _, c := range []struct {
		b    Binding
		i, n int
		want string
	}{
		{Core, 1, 4, "2-3"}, {Core, 9, 16, "1"}, {Node, 0, 4, "0-3"}, {Node, 1, 4, "0-3"}, {Node, 2, 4, "4-7"}, {Node, 0, 1, "0-3"}, {None, 3, 4, "0-7"},
	} {
		if got := c.b.Place(all, nodes, c.i, c.n).String(); got != c.want {
			t.Errorf("%s: rank %d of %d goes to %s, want %s", c.b, c.i, c.n, got, c.want)
		}
	}
	if b, err := ParseBinding("socket"); err == nil {
		t.Errorf("got binding %q", b)
	}
}
