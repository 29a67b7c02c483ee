// SPDX-License-Identifier: Apache-2.0

package schedule

import "math/bits"

// maxExchanged is up to how many bytes two nodes of one rank exchange. More
// rounds, and ranks that all send what the node has, make the bound smaller:
// then trees, on which one copy of the data travels, are cheaper. Measured on
// two and four nodes of one rank and two of two (docs/performance.md).
const maxExchanged = 256 << 10

// Exchange is how a small AllReduce or a Barrier goes on a layout that allows
// it: recursive doubling instead of trees. In a round each rank and its
// counterpart, the rank with its local number on another node, send each other
// what they have and both add it up, the lower nodes' part first. So all ranks
// have the result, with the same bits, after log2 N messages in a row where
// trees take twice as many.
//
// Where N is no power of two, but 2^k + x, each odd one of the first 2x nodes
// first gives what it has to the node below it, which counts for both, and
// gets the result from it at the end.
//
// The zero value allows nothing.
type Exchange struct {
	rounds int
	folded int // x
	bytes  int64
}

// NewExchange returns the exchange of a layout. It needs more than one node,
// with equally many ranks each.
func NewExchange(l *Layout) Exchange {
	n, local := l.NodeCount(), l.Shards()
	if n < 2 || n*local != l.WorldSize() {
		return Exchange{}
	}
	rounds := bits.Len(uint(n)) - 1
	x := Exchange{rounds: rounds, folded: n - 1<<rounds}
	if x.folded > 0 {
		x.rounds += 2
	}
	x.bytes = int64(maxExchanged / (local * local * x.rounds) / align * align)
	return x
}

// Rounds returns the number of rounds, 0 if there is no exchange.
func (x Exchange) Rounds() int { return x.rounds }

// MaxBytes returns the size of the largest buffer that is exchanged.
func (x Exchange) MaxBytes() int64 { return x.bytes }

// Takes reports whether a collective over so many bytes is an exchange.
func (x Exchange) Takes(c Collective, bytes int64) bool {
	return x.rounds > 0 && (c == Barrier || c == AllReduce && bytes <= x.bytes)
}

// Step is what a node does in a round of an exchange. It can be nothing.
type Step struct {
	Partner int  // the node that it talks to, -1 if it does nothing
	Sends   bool // what it has
	Takes   bool // what the partner has, to be added to what it has itself
	First   bool // the partner's part comes first in the sum
	Result  bool // what travels is the result
}

// Step returns what a node does in a round, 0 to Rounds()-1.
func (x Exchange) Step(node, round int) Step {
	if x.folded == 0 {
		partner := node ^ 1<<round
		return Step{Partner: partner, Sends: true, Takes: true, First: partner < node}
	}
	below, inPair := node&^1, node < 2*x.folded
	switch end := round == x.rounds-1; {
	case round == 0 || end:
		if !inPair {
			return Step{Partner: -1}
		}
		up := (node == below) == end // the lower one has the result at the end, the other one what it gives at the beginning
		return Step{Partner: node ^ 1, Sends: up, Takes: !up, Result: end}
	case inPair && node != below:
		return Step{Partner: -1}
	}
	position := node - x.folded
	if inPair {
		position = node / 2
	}
	other := position ^ 1<<(round-1)
	partner := other + x.folded
	if other < x.folded {
		partner = other * 2
	}
	return Step{Partner: partner, Sends: true, Takes: true, First: partner < node}
}

// Parts returns of how many nodes a node has the sum when a round begins.
func (x Exchange) Parts(node, round int) int {
	if x.folded == 0 || round == 0 {
		return 1 << round
	}
	position := node - x.folded
	if node < 2*x.folded {
		position = node / 2
	}
	size := 1 << (round - 1)
	first := position &^ (size - 1)
	return size + max(0, min(first+size, x.folded)-first) // the first positions count twice
}
