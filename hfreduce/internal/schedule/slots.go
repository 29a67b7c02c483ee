// SPDX-License-Identifier: Apache-2.0

package schedule

import "math/bits"

// minSlots is enough for a pair of nodes, and for the ranks of one.
const minSlots = 4

// Slots returns how many items must be under way on each of n nodes for collectives to go as fast as the nodes can send: a
// power of two. An item is under way for as long as partial sums take up a tree and the result down again, and at every
// hop it is sent whole, behind others, before it can be sent on. So it takes about four sends for each level of the tree
// (docs/algorithms.md; a test plays it through).
func Slots(n int) int {
	need := max(minSlots, 4*Rotated(n, 0).Depth())
	return 1 << bits.Len(uint(need-1))
}
