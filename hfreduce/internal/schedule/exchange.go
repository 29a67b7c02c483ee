// SPDX-License-Identifier: Apache-2.0

package schedule

import "math/bits"

// maxExchanged is up to how many bytes two nodes of one rank exchange. More
// rounds, and ranks that all send what the node has, make the bound smaller:
// then trees, on which one copy of the data travels, are cheaper. Measured on
// two and four nodes of one rank and two of two (docs/performance.md).
const maxExchanged = 256 << 10

// Exchange is how a small AllReduce or a Barrier goes on a layout that allows
// it: recursive doubling instead of trees. In round r each rank and its
// counterpart, the rank with its local number on the node 2^r away, send each
// other what they have and both add it up, the lower nodes' part first. So all
// ranks have the result, with the same bits, after log2 N messages in a row
// where trees take twice as many.
//
// The zero value allows nothing.
type Exchange struct {
	rounds int
	bytes  int64
}

// NewExchange returns the exchange of a layout. It needs a power of two of
// nodes, more than one, with equally many ranks.
func NewExchange(l *Layout) Exchange {
	n, local := l.NodeCount(), l.Shards()
	if n < 2 || n&(n-1) != 0 || n*local != l.WorldSize() {
		return Exchange{}
	}
	rounds := bits.Len(uint(n)) - 1
	return Exchange{rounds: rounds, bytes: int64(maxExchanged / (local * local * rounds) / align * align)}
}

// Rounds returns the number of rounds, 0 if there is no exchange.
func (x Exchange) Rounds() int { return x.rounds }

// MaxBytes returns the size of the largest buffer that is exchanged.
func (x Exchange) MaxBytes() int64 { return x.bytes }

// Takes reports whether a collective over so many bytes is an exchange.
func (x Exchange) Takes(c Collective, bytes int64) bool {
	return x.rounds > 0 && (c == Barrier || c == AllReduce && bytes <= x.bytes)
}

// Partner returns the node that a node talks to in a round, and whether that
// one's part comes first in the sum.
func (x Exchange) Partner(node, round int) (partner int, first bool) {
	partner = node ^ 1<<round
	return partner, partner < node
}
