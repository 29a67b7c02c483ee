// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNewLayout(t *testing.T) {
	l := layout(t, 0, 1, 0, 2, 1, 0)
	if want := [][]int{{0, 2, 5}, {1, 4}, {3}}; !reflect.DeepEqual(l.Nodes, want) {
		t.Errorf("nodes %v, want %v", l.Nodes, want)
	}
	if l.WorldSize() != 6 || l.NodeCount() != 3 || l.Shards() != 3 || l.LocalSize(1) != 2 {
		t.Errorf("world size %d, nodes %d, shards %d, local size of node 1 %d", l.WorldSize(), l.NodeCount(), l.Shards(), l.LocalSize(1))
	}
	owners := [][]int{{0, 2, 5}, {1, 4, 1}, {3, 3, 3}}
	for v, want := range owners {
		for s, rank := range want {
			if got := l.Owner(v, s); got != rank {
				t.Errorf("shard %d on node %d is rank %d's, want %d", s, v, got, rank)
			}
		}
	}
	for _, rank := range []int{-1, 6} {
		if l.NodeOf(rank) != -1 || l.LocalRank(rank) != -1 {
			t.Errorf("rank %d, which does not exist: node %d, local rank %d", rank, l.NodeOf(rank), l.LocalRank(rank))
		}
	}
}

func TestNewLayoutRefuses(t *testing.T) {
	tests := []struct {
		name   string
		nodeOf []int
		want   string
	}{
		{"no ranks", nil, "at least one rank"},
		{"negative node", []int{0, -1}, "rank 1 is on node -1"},
		{"node beyond the ranks", []int{0, 1 << 40}, "rank 1 is on node 1099511627776"},
		{"gap", []int{0, 2, 2}, "node 1 has no rank, but node 2 has"},
		{"no node 0", []int{1, 1}, "node 0 has no rank"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewLayout(tc.nodeOf)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestLayoutIsAPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t, 8, 5)
		ranks := 0
		for v, members := range l.Nodes {
			for i, rank := range members {
				ranks++
				if l.NodeOf(rank) != v || l.LocalRank(rank) != i || l.Owner(v, i) != rank {
					t.Fatalf("%v: rank %d is on node %d as local rank %d, shard %d is rank %d's",
						l.Nodes, rank, l.NodeOf(rank), l.LocalRank(rank), i, l.Owner(v, i))
				}
				if i > 0 && members[i-1] >= rank {
					t.Fatalf("%v: local ranks do not follow the ranks", l.Nodes)
				}
			}
		}
		if ranks != l.WorldSize() {
			t.Fatalf("%v: %d ranks, world size %d", l.Nodes, ranks, l.WorldSize())
		}
	})
}

func TestNewLayoutKeepsNoArgument(t *testing.T) {
	nodeOf := []int{0, 1}
	l := layout(t, nodeOf...)
	nodeOf[1] = 0
	if l.NodeOf(1) != 1 {
		t.Error("the layout changed with its argument")
	}
}
