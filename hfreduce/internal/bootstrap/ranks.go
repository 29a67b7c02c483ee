// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"strings"
)

// maxRanges is how many ranges a list of ranks shows before it is cut short.
const maxRanges = 24

// FormatRanks names ascending ranks: "rank 3" or "ranks 3, 7, 12-15".
func FormatRanks(ranks []int) string {
	var b strings.Builder
	b.WriteString("rank")
	if len(ranks) != 1 {
		b.WriteByte('s')
	}
	for i, shown := 0, 0; i < len(ranks); shown++ {
		last := i
		for last+1 < len(ranks) && ranks[last+1] == ranks[last]+1 {
			last++
		}
		switch {
		case shown == maxRanges:
			fmt.Fprintf(&b, " and %d more", len(ranks)-i)
			return b.String()
		case shown > 0:
			b.WriteByte(',')
		}
		if last > i+1 {
			fmt.Fprintf(&b, " %d-%d", ranks[i], ranks[last])
		} else {
			fmt.Fprintf(&b, " %d", ranks[i]) // two neighbours read better apart
			last = i
		}
		i = last + 1
	}
	return b.String()
}
