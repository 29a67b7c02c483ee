// SPDX-License-Identifier: Apache-2.0

package launch

// place is where a rank stands.
type place struct {
	rank, node, localRank, localSize int
}

// placeOf divides ranks into contiguous blocks over nodes; the first nodes get one more where it does not come out even.
func placeOf(rank, ranks, nodes int) place {
	size, first := ranks/nodes, 0 // of the current node
	for node := range nodes {
		local := size
		if node < ranks%nodes {
			local++
		}
		if rank < first+local {
			return place{rank, node, rank - first, local}
		}
		first += local
	}
	return place{rank: rank}
}
