// SPDX-License-Identifier: Apache-2.0

package schedule

// MinShardBytes is the least useful size of a shard. Smaller items are cut into
// fewer shards, because a message costs about as much as sending this much.
const MinShardBytes = 4096

// ShardCount returns into how many shards, of at most shards, an item of so many
// bytes is cut: at least one, also for an empty item, whose shard 0 is the
// message that says it is there.
func ShardCount(bytes int64, shards int) int {
	return int(max(1, min(int64(shards), bytes/MinShardBytes)))
}

// Shard returns the range of shard s of an item in bytes from the item's start.
// elem is the element size in bytes. The ranges of shards 0..ShardCount-1 follow
// each other without gaps; inner bounds are multiples of 64 bytes (of 64
// elements, for element sizes that do not divide 64) and sizes differ by at most
// one such unit, but for the rest of the last. Shards from ShardCount on are
// empty. The cut does not touch the order of any sum: it only says who adds.
func Shard(bytes int64, elem, shards, s int) (lo, hi int64) {
	count := ShardCount(bytes, shards)
	unit := cutUnit(elem)
	units := bytes / unit // whole ones; the last shard takes what remains
	if bytes%unit != 0 {
		units++
	}
	return min(bytes, shardStart(units, count, s)*unit), min(bytes, shardStart(units, count, s+1)*unit)
}

// shardStart returns the unit at which shard s of count starts; the first
// shards are the larger ones. There is no product units*s that could overflow.
func shardStart(units int64, count, s int) int64 {
	s = min(s, count)
	return units/int64(count)*int64(s) + min(units%int64(count), int64(s))
}
