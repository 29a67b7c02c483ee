// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"testing"

	"pgregory.net/rapid"
)

func TestShardCount(t *testing.T) {
	tests := []struct {
		bytes  int64
		shards int
		want   int
	}{
		{0, 8, 1}, {1, 8, 1}, {MinShardBytes - 1, 8, 1}, {MinShardBytes, 8, 1},
		{2*MinShardBytes - 1, 8, 1}, {2 * MinShardBytes, 8, 2}, {7 * MinShardBytes, 8, 7},
		{8 * MinShardBytes, 8, 8}, {1 << 62, 8, 8}, {MiB, 1, 1}, {8 * MinShardBytes, 3, 3},
	}
	for _, tc := range tests {
		if got := ShardCount(tc.bytes, tc.shards); got != tc.want {
			t.Errorf("ShardCount(%d, %d) = %d, want %d", tc.bytes, tc.shards, got, tc.want)
		}
	}
}

func TestShardBounds(t *testing.T) {
	tests := []struct {
		name         string
		bytes        int64
		shards, s    int
		wantLo, want int64
	}{
		{"empty item", 0, 4, 0, 0, 0},
		{"empty item, other shard", 0, 4, 3, 0, 0},
		{"small item is one shard", 5000, 4, 0, 0, 5000},
		{"small item, other shard", 5000, 4, 1, 5000, 5000},
		{"even cut", 64 * KiB, 4, 2, 32 * KiB, 48 * KiB},
		{"first shards are larger", 8192 + 64, 2, 0, 0, 4160},
		{"last takes the rest", 8192 + 7, 2, 1, 4160, 8199},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if lo, hi := Shard(tc.bytes, 4, tc.shards, tc.s); lo != tc.wantLo || hi != tc.want {
				t.Errorf("[%d,%d), want [%d,%d)", lo, hi, tc.wantLo, tc.want)
			}
		})
	}
}

func TestShardsTileTheItem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		elem := rapid.SampledFrom([]int{1, 2, 4, 8, 3, 12}).Draw(t, "element size")
		bytes := int64(elem) * rapid.OneOf(rapid.Int64Range(0, 100000), rapid.Int64Range(0, 1<<58)).Draw(t, "elements")
		shards := rapid.IntRange(1, 20).Draw(t, "shards")
		count, unit := ShardCount(bytes, shards), cutUnit(elem)
		var at, smallest, largest int64
		for s := range shards + 2 {
			lo, hi := Shard(bytes, elem, shards, s)
			if lo != at || hi < lo {
				t.Fatalf("shard %d is [%d,%d), want one from %d", s, lo, hi, at)
			}
			if lo != bytes && lo%unit != 0 {
				t.Fatalf("shard %d starts at %d, no multiple of %d", s, lo, unit)
			}
			at = hi
			switch {
			case s >= count && hi > lo:
				t.Fatalf("shard %d of %d has bytes [%d,%d)", s, count, lo, hi)
			case s == 0:
				smallest, largest = hi-lo, hi-lo
			case s < count:
				smallest, largest = min(smallest, hi-lo), max(largest, hi-lo)
			}
		}
		if at != bytes {
			t.Fatalf("shards end at %d of %d", at, bytes)
		}
		if largest-smallest >= 2*unit {
			t.Fatalf("shards have %d to %d bytes", smallest, largest)
		}
	})
}
