// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// item is the state of one item on one rank while it is in the ring.
type item struct {
	seq   uint32
	slot  int
	cut   schedule.Item
	flow  schedule.Flow
	lo    int64 // of the item in its flow
	bytes int64

	parent   int // node, -1 at the tree root
	child    [2]int
	children int

	shards  int    // in use for this item
	src     []byte // this rank's input in one run, nil when it was staged in pieces
	dst     []byte // where this rank's output lies in one run, nil otherwise
	forward bool   // results can be sent from dst
	direct  bool   // results of own shards go straight to dst, too
	bare    bool   // the node's partial sum is this rank's input, and is sent from where it lies
	private bool   // nobody else reads the result: own shards are reduced into dst only
	spread  bool   // own shards are reduced straight into the buffers of all ranks of the node

	own  []Shard  // this rank's shards: shard number own[i] is local+i*localSize
	away []bool   // of own shards: the parent's message lands in dst, not in the slot
	sums []uint32 // of own shards, with checksums: of the partial sum, then of the result
	left int      // own shards that are not complete
	out  bool     // this rank's output has been copied out (or it has none)

	filling  bool   // the device has not copied this rank's input into the slot yet
	draining bool   // the device has to copy the result out, and is not through
	together uint32 // the last item that the device is given together with this one

	travelling int // own shards that are in PhaseNetwork
}

// ownShard returns the number of the i-th own shard.
func (e *Engine) ownShard(i int) int { return e.local + i*e.localSize }

// begin prepares the ring entry for the plan's next item.
func (e *Engine) begin(it *item, cut schedule.Item, seq uint32) {
	op := e.op
	own, away, sums := it.own[:0], it.away, it.sums
	clear(away)
	clear(sums)
	*it = item{away: away, sums: sums, seq: seq, slot: int(seq % uint32(e.mem.slots)), cut: cut, flow: op.Plan.Flow(cut.Flow), lo: cut.Lo, bytes: cut.Hi - cut.Lo}
	tree := it.flow.Tree
	it.parent = tree.Parent(e.node)
	it.child, it.children = tree.Children(e.node)
	if it.flow.Pair {
		other := 1 - e.node
		it.parent, it.child, it.children = other, [2]int{other}, 1
	}
	it.shards = schedule.ShardCount(it.bytes, e.mem.shards)
	for s := e.local; s < it.shards; s += e.localSize {
		shard := NewShard(it.flow.Up, it.flow.Down, it.parent < 0, it.children)
		if it.flow.Pair {
			shard = NewPairShard()
		}
		own = append(own, shard)
	}
	it.own, it.left = own, len(own)

	if it.flow.Up && !op.Filled {
		it.src = e.contiguous(op.In, op.Src, it)
	}
	takes := op.Out != Nowhere && (it.flow.Down || it.parent < 0)
	it.out = !takes
	if e.device != nil {
		e.beginTransfers(it)
	}
	if takes && !op.Drained {
		it.dst = e.contiguous(op.Out, op.Dst, it)
		it.direct = it.dst != nil && it.flow.Up && (it.parent < 0 || it.flow.Pair)
		it.forward = it.dst != nil && e.forwards(it)
		it.private = it.direct && it.forward && e.localSize == 1
	}
	if it.forward && !it.direct && it.parent >= 0 && e.localSize == 1 {
		e.redirectResults(it)
	}
	it.bare = e.localSize == 1 && it.src != nil && !op.Scaled && it.parent >= 0 && (it.flow.Pair || it.children == 0) && e.offers(it)
}

// forwards reports whether the links to the children send results of own shards from this rank's buffer.
func (e *Engine) forwards(it *item) bool {
	for i := range it.own {
		lo, hi := e.bounds(it, e.ownShard(i))
		for _, child := range it.child[:it.children] {
			if !it.flow.Pair && !e.sends(e.peer(child, e.ownShard(i)), it.dst[lo:hi]) {
				return false
			}
		}
	}
	return true
}

// offers reports whether the links to the parent send own shards from this rank's input.
func (e *Engine) offers(it *item) bool {
	for i := range it.own {
		if e.op.Filled && e.selective[e.peer(it.parent, e.ownShard(i))] != nil {
			return false // an adapter would go on reading when the device is released
		}
		lo, hi := e.bounds(it, e.ownShard(i))
		if !e.sends(e.peer(it.parent, e.ownShard(i)), it.src[lo:hi]) {
			return false
		}
	}
	return true
}

// redirectResults makes the parent's messages land in the buffer of the node's only rank, where its links can do so. In
// place that is safe: a result comes after what lies in its place has been sent, or added to what was sent.
func (e *Engine) redirectResults(it *item) {
	for i := range it.own {
		shard := e.ownShard(i)
		landing := e.mem.landing(it.slot, shard, Parent)
		if a := &e.arrivals[landing]; a.fresh && a.seq == it.seq {
			continue
		}
		lo, hi := e.bounds(it, shard)
		if r := e.redirect[e.peer(it.parent, shard)]; r != nil && lo < hi {
			it.away[i] = r.Redirect(landing, it.seq, it.dst[lo:hi:hi])
		}
	}
}

// bounds returns the range of a shard within the item.
func (e *Engine) bounds(it *item, shard int) (lo, hi int64) {
	return schedule.Shard(it.bytes, e.op.Spec.DType.Size(), it.shards, shard)
}

// peer returns the rank that carries a shard on a neighbouring node.
func (e *Engine) peer(node, shard int) int { return e.cfg.Layout.Owner(node, shard) }

// neighbour returns the node of a neighbour in the item's tree.
func (it *item) neighbour(n Neighbour) int {
	if n == Parent {
		return it.parent
	}
	return it.child[n]
}

// sideAt says as what this node appears to the neighbour n: the receiver's view of a message from here.
func (e *Engine) sideAt(it *item, n Neighbour) Neighbour {
	if n != Parent {
		return Parent
	}
	if it.flow.Pair {
		return Child0
	}
	siblings, count := it.flow.Tree.Children(it.parent)
	if count > 1 && siblings[1] == e.node {
		return Child1
	}
	return Child0
}
