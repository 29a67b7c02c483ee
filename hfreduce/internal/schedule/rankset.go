// SPDX-License-Identifier: Apache-2.0

package schedule

import "math/bits"

// rankSet is a set of ranks: whose contributions a partial sum holds.
type rankSet []uint64

func newRankSet(worldSize int) rankSet { return make(rankSet, (worldSize+63)/64) }

// add puts a rank into the set; false if it was in it.
func (s rankSet) add(rank int) bool {
	bit := uint64(1) << (rank % 64)
	if s[rank/64]&bit != 0 {
		return false
	}
	s[rank/64] |= bit
	return true
}

// merge adds all ranks of o. If some rank was in both it is returned, else -1.
func (s rankSet) merge(o rankSet) (twice int) {
	for i, w := range o {
		if both := s[i] & w; both != 0 {
			return i*64 + bits.TrailingZeros64(both)
		}
		s[i] |= w
	}
	return -1
}

// has reports whether a rank is in the set.
func (s rankSet) has(rank int) bool { return s[rank/64]>>(rank%64)&1 != 0 }

// count returns the number of ranks in the set.
func (s rankSet) count() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}
