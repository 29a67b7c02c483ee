// SPDX-License-Identifier: Apache-2.0

package schedule

// MinSplitBytes is the buffer size from which on both trees are used. Below it
// a second tree would double the messages to save less than it costs.
const MinSplitBytes = 8192

// align is what all cuts are multiples of, in bytes: a cache line, and a
// multiple of the size of every data type that we have.
const align = 64

// Flow is one tree with the bytes that travel on it.
type Flow struct {
	Tree Tree
	Up   bool // partial sums travel to the tree root
	Down bool // results travel from the tree root; with Up: after the sum
	// Pair: there are two nodes, and instead of a partial sum up and a result
	// down each sends the other one its partial sum, and both add them, node 0's
	// first. Up and Down are set, too.
	Pair bool
	// Node is the node whose ranks' blocks these are (ReduceScatter, AllGather),
	// the root rank's node (Reduce, Broadcast), or -1.
	Node int
	// Offset and Bytes are the range of the user's buffer. For ReduceScatter and
	// AllGather they count in the blocks of Node's ranks, concatenated in
	// local-rank order: Offset is 0, and [Plan.Segments] translates.
	Offset, Bytes int64
}

// Plan is one collective on one layout: what all nodes do, in flows. It depends
// on the layout and on the byte count only, never on chunk size or timing, so
// that an element is summed in the same order whatever these are. It is a small
// value; [NewPlan] allocates nothing.
type Plan struct {
	Collective Collective
	Root       int   // the root rank of Reduce and Broadcast, else -1
	Block      int64 // bytes of one rank's block for ReduceScatter and AllGather, else 0

	layout *Layout
	bytes  int64 // of the buffer; 0 for ReduceScatter and AllGather
	split  int64 // bytes on tree 0; the rest is on tree 1
	elem   int   // element size in bytes: no cut falls into an element
	flows  int
}

// NewPlan plans a collective. bytes is the size of the buffer or, for
// ReduceScatter and AllGather, of one rank's block; elem is the element size in
// bytes and divides it; root is the root rank of Reduce and Broadcast and
// ignored otherwise. The caller has checked its user's arguments: a root that
// is no rank gives a plan that [Verify] refuses. l is kept and must not change.
func NewPlan(l *Layout, c Collective, bytes int64, elem int, root int) Plan {
	p := Plan{Collective: c, Root: -1, layout: l, elem: elem}
	switch {
	case c == Barrier:
		p.flows = 1
	case c.blocked():
		p.Block, p.flows = bytes, l.NodeCount()
	default:
		p.bytes, p.split, p.flows = bytes, bytes, 1
		if bytes >= MinSplitBytes && l.NodeCount() > 1 {
			p.split, p.flows = min(bytes, roundUp(bytes-bytes/2, cutUnit(elem))), 2
		}
	}
	if c.rooted() {
		p.Root = root
	}
	return p
}

// Flows returns the number of flows: one or two, or one for each node for
// ReduceScatter and AllGather.
func (p *Plan) Flows() int { return p.flows }

// Flow returns flow i of 0..Flows()-1.
func (p *Plan) Flow(i int) Flow {
	n := p.layout.NodeCount()
	f := Flow{Up: p.Collective.up(), Down: p.Collective.down(), Node: -1, Bytes: p.flowBytes(i)}
	switch {
	case p.Collective.blocked():
		f.Tree, f.Node = Rotated(n, i), i
		return f
	case p.Collective.rooted():
		f.Node = p.layout.NodeOf(p.Root)
		f.Tree = RootedPair(n, f.Node)[i]
	default:
		f.Tree = DoubleBinary(n)[i]
		f.Pair = n == 2 && p.Collective == AllReduce
	}
	if i == 1 {
		f.Offset = p.split
	}
	return f
}

// flowBytes is Flow(i).Bytes without the rest.
func (p *Plan) flowBytes(i int) int64 {
	switch {
	case p.Collective.blocked():
		return int64(p.layout.LocalSize(i)) * p.Block
	case i == 0:
		return p.split
	}
	return p.bytes - p.split
}

// maxFlowBytes returns the size of the largest flow.
func (p *Plan) maxFlowBytes() int64 {
	if p.Collective.blocked() {
		return int64(p.layout.Shards()) * p.Block
	}
	return max(p.split, p.bytes-p.split)
}

// cutUnit returns what cuts are multiples of: 64 bytes, or 64 elements of a
// size that does not divide 64.
func cutUnit(elem int) int64 {
	if elem <= 0 || align%elem == 0 {
		return align
	}
	return align * int64(elem)
}

// roundUp rounds x >= 0 up to a multiple of unit.
func roundUp(x, unit int64) int64 { return (x + unit - 1) / unit * unit }
