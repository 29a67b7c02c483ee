// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"hash/crc32"
)

// With Geometry.WithChecksums, whoever puts data where another reads it puts a CRC32C beside it, and whoever reads it compares,
// before the data is added, sent on or copied to a user:
//
//	input    a rank's input in the slot, read by the rank that adds the shard; the sums lie in an area of their own
//	message  a partial sum, a result or a part of an exchange; the sum travels in the message, and goes on with a result that is
//	         forwarded, so that it is the one that the tree root made
//	result   a result in the slot, read by all ranks of the node; the sum lies beside the word that says so
//
// A sum is made of the source of a copy, and of a sum as soon as it is written, while it is in the cache. Data is compared as
// late as possible: where several ranks' data are added that is when all are there. What is not in a slot is not compared: users'
// buffers, shared ones included.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// hop is the kind of way on which data is compared.
type hop uint8

const (
	hopInput hop = iota
	hopResult
	hopPartial // this rank's own, which waits for its pair's
	hopUp
	hopDown
	hopPair
	hopExchange
	hopShort
)

// CorruptError says that data is not what a rank had sent.
type CorruptError struct {
	From, To  int    // whose data it is, and the rank that found it
	Hop       string // the way, e.g. "tcp, tree up"
	Item      uint32
	Shard     int // of the item; -1 in small reductions, which have none
	Sent, Got uint32
}

// Error returns one line.
func (c *CorruptError) Error() string {
	shard := ""
	if c.Shard >= 0 {
		shard = fmt.Sprintf(", shard %d", c.Shard)
	}
	return fmt.Sprintf("rank %d -> rank %d (%s), item %d%s: CRC32C %08x was sent, %08x arrived", c.From, c.To, c.Hop, c.Item, shard, c.Sent, c.Got)
}

// describe names a hop from a rank.
func (e *Engine) describe(h hop, from int) string {
	where := "shared memory"
	if l := e.links[from]; l != nil {
		where = l.Transport()
	}
	return where + ", " + [...]string{"input", "result", "partial sum", "tree up", "tree down", "pair", "exchange", "small input"}[h]
}

// check compares data that came from a rank with the sum that came with it.
func (e *Engine) check(b []byte, sent uint32, from int, h hop, seq uint32, shard int) error {
	return e.compare(sumOf(b), sent, from, h, seq, shard)
}

// compare is check for a sum that is made already. Where the GPU of a rank that has failed may have overwritten the data, that
// is the error.
func (e *Engine) compare(got, sent uint32, from int, h hop, seq uint32, shard int) error {
	e.counter.Checked.Add(1)
	if got == sent {
		return nil
	}
	if err := e.Sound(); err != nil {
		return err
	}
	return &CorruptError{From: from, To: e.cfg.Rank, Hop: e.describe(h, from), Item: seq, Shard: shard, Sent: sent, Got: got}
}

// sum returns the sum of an own shard's partial sum or result.
func (e *Engine) sum(it *item, shard int) *uint32 { return &it.sums[shard/e.localSize] }

// mates returns the ranks of this node.
func (e *Engine) mates() []int { return e.cfg.Layout.Nodes[e.node] }

// foldInput adds bytes of a shard that this rank gives, in their order, to the sum that it shows.
func (e *Engine) foldInput(it *item, shard int, b []byte) {
	sum := &e.mem.inputSums(it.slot, e.local)[shard]
	*sum = crc32.Update(*sum, castagnoli, b)
}

// sumFilled makes the sums of what the device has copied into the slot.
func (e *Engine) sumFilled(it *item) {
	if !e.mem.checksums {
		return
	}
	clear(e.mem.inputSums(it.slot, e.local))
	area := e.mem.input(it.slot, e.local)
	for p := e.pieces(e.op.In, it); ; {
		run, ok := p.next()
		if !ok {
			return
		}
		for s := range it.shards {
			lo, hi := e.bounds(it, s)
			a, b := max(lo, run.lo), min(hi, run.hi)
			switch {
			case a >= b:
			case it.flow.Up:
				e.foldInput(it, s, area[a:b])
			default:
				e.foldInput(it, s, e.mem.result(it.slot, s)[a-lo:b-lo])
			}
		}
	}
}

// checkInput compares what is about to be added of a local rank's input, if it lies in the slot.
func (e *Engine) checkInput(it *item, shard, local int, b []byte) error {
	if !e.mem.checksums || e.mem.readyLine(it.slot, local).share != notShare || local == e.local && it.src != nil && !e.op.Filled {
		return nil
	}
	return e.check(b, e.mem.inputSums(it.slot, local)[shard], e.mates()[local], hopInput, it.seq, shard)
}

// checkPartial compares a child's partial sum.
func (e *Engine) checkPartial(it *item, shard int, child Neighbour, b []byte) error {
	if !e.mem.checksums {
		return nil
	}
	h := hopUp
	if it.flow.Pair {
		h = hopPair
	}
	sent := e.arrivals[e.mem.landing(it.slot, shard, child)].sum
	return e.check(b, sent, e.peer(it.child[child], shard), h, it.seq, shard)
}

// checkOwn compares an own shard's partial sum, which has waited in the slot.
func (e *Engine) checkOwn(it *item, shard int, b []byte) error {
	if !e.mem.checksums || it.bare && !e.op.Filled {
		return nil
	}
	return e.check(b, *e.sum(it, shard), e.cfg.Rank, hopPartial, it.seq, shard)
}

// checkParent compares a result that has landed, and keeps its sum for those who get it from here.
func (e *Engine) checkParent(it *item, shard int, a *arrival) error {
	if !e.mem.checksums {
		return nil
	}
	lo, hi := e.bounds(it, shard)
	*e.sum(it, shard) = a.sum
	return e.check(e.resultOf(it, shard, lo, hi), a.sum, a.from, hopDown, it.seq, shard)
}

// checkGiven compares the parts of an own shard that ranks of this node, the tree root, have put where its result belongs, and
// makes the sum of the whole.
func (e *Engine) checkGiven(it *item, shard int) error {
	if !e.mem.checksums || it.flow.Up {
		return nil
	}
	lo, hi := e.bounds(it, shard)
	data := e.mem.result(it.slot, shard)[:hi-lo]
	whole := false
	for l, rank := range e.mates() {
		sum, given := uint32(0), int64(0)
		for p := piecesOf(&e.op.Plan, e.cfg.Layout, rank, e.op.givenBy(rank), it.cut); ; {
			run, ok := p.next()
			if !ok {
				break
			}
			if a, b := max(lo, run.lo), min(hi, run.hi); a < b {
				sum = crc32.Update(sum, castagnoli, data[a-lo:b-lo])
				given += b - a
			}
		}
		if given == 0 {
			continue
		}
		if err := e.compare(sum, e.mem.inputSums(it.slot, l)[shard], rank, hopInput, it.seq, shard); err != nil {
			return err
		}
		if given == hi-lo {
			*e.sum(it, shard), whole = sum, true
		}
	}
	if !whole {
		*e.sum(it, shard) = sumOf(data)
	}
	return nil
}

// checkExchanged compares what has come in a round of an exchange, and what it is added to.
func (e *Engine) checkExchanged(rank int, a *arrival, mine, theirs []byte) error {
	s := &e.short
	if !e.mem.checksums {
		return nil
	}
	if err := e.check(theirs, a.sum, rank, hopExchange, s.seq, -1); err != nil || s.step.Result || s.input && !s.summed {
		return err
	}
	return e.check(mine, s.sum, e.cfg.Rank, hopPartial, s.seq, -1)
}

// givenBy returns how a rank gives data to a flow that only goes down.
func (op *Op) givenBy(rank int) Mapping {
	switch op.Plan.Root {
	case -1:
		return Own
	case rank:
		return Whole
	}
	return Nowhere
}

// sumBare makes the sum of an own shard that is sent from this rank's input.
func (e *Engine) sumBare(it *item, shard int, lo, hi int64) {
	switch {
	case !e.mem.checksums:
	case e.op.Filled:
		*e.sum(it, shard) = e.mem.inputSums(it.slot, e.local)[shard]
	default:
		*e.sum(it, shard) = sumOf(it.src[lo:hi])
	}
}

// sumResult makes the sum of an own shard's result that this rank has written, unless nobody reads it from there.
func (e *Engine) sumResult(it *item, shard int, lo, hi int64) {
	sent := it.flow.Down && it.children > 0 && !it.flow.Pair
	if e.mem.checksums && (sent || !it.private && !it.spread) {
		*e.sum(it, shard) = sumOf(e.resultOf(it, shard, lo, hi))
	}
}

// checkResults compares the shards that this rank, or its device, takes out of the slot.
func (e *Engine) checkResults(it *item) error {
	if !e.mem.checksums {
		return nil
	}
	next := 0 // the first shard that was not looked at: pieces are in order
	for p := e.pieces(e.op.Out, it); ; {
		run, ok := p.next()
		if !ok {
			return nil
		}
		if e.skips(run) {
			continue
		}
		for ; next < it.shards; next++ {
			lo, hi := e.bounds(it, next)
			if lo >= run.hi {
				break
			}
			if hi <= run.lo || e.placed(it, next) {
				continue
			}
			from := e.mates()[next%e.localSize]
			if err := e.check(e.mem.result(it.slot, next)[:hi-lo], e.mem.reducedLine(it.slot, next).sum, from, hopResult, it.seq, next); err != nil {
				return err
			}
		}
	}
}
