// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/internal/golden"
)

// draw writes a tree with its children below each node, in the order in which
// partial sums are added.
func draw(b *strings.Builder, tree Tree, v int, indent string) {
	fmt.Fprintf(b, "%d\n", v)
	children, count := tree.Children(v)
	for i, c := range children[:count] {
		if i < count-1 {
			b.WriteString(indent + "├─ ")
			draw(b, tree, c, indent+"│  ")
		} else {
			b.WriteString(indent + "└─ ")
			draw(b, tree, c, indent+"   ")
		}
	}
}

func drawPair(trees [2]Tree) string {
	var b strings.Builder
	for i, tree := range trees {
		fmt.Fprintf(&b, "tree %d: root %d, depth %d\n", i, tree.Root(), tree.Depth())
		draw(&b, tree, tree.Root(), "")
		b.WriteString("child>parent:")
		for v := range tree.Nodes() {
			if v != tree.Root() {
				fmt.Fprintf(&b, " %d>%d", v, tree.Parent(v))
			}
		}
		b.WriteString("\n\n")
	}
	return b.String()
}

func TestGoldenDoubleBinary(t *testing.T) {
	for _, n := range []int{2, 3, 5, 8} {
		golden.Check(t, fmt.Sprintf("doublebinary-%d.txt", n), drawPair(DoubleBinary(n)))
	}
}

func TestGoldenRootedPair(t *testing.T) {
	golden.Check(t, "rootedpair-8-root-3.txt", drawPair(RootedPair(8, 3)))
}

// TestGoldenPlans shows the items of each collective on two uneven nodes whose
// ranks are not contiguous, with the user's bytes that they stand for.
func TestGoldenPlans(t *testing.T) {
	l := layout(t, 0, 1, 0, 0, 1)
	var b strings.Builder
	fmt.Fprintf(&b, "nodes %v\n", l.Nodes)
	for _, c := range everyCollective {
		size := int64(20000)
		if c.blocked() {
			size = 5000
		}
		p := NewPlan(l, c, size, 4, 1)
		fmt.Fprintf(&b, "\n%s, %d bytes, chunk 8192\n", c, size)
		for seq, it := range allItems(&p, 8192) {
			fmt.Fprintf(&b, "%d: %v, root node %d, shards %d:", seq, it, p.Flow(it.Flow).Tree.Root(), ShardCount(it.Bytes(), l.Shards()))
			for segments := p.Segments(l, it); ; {
				s, ok := segments.Next()
				if !ok {
					break
				}
				if s.Rank >= 0 {
					fmt.Fprintf(&b, " rank %d", s.Rank)
				}
				fmt.Fprintf(&b, " [%d,%d)", s.Offset, s.Offset+s.Hi-s.Lo)
			}
			b.WriteString("\n")
		}
	}
	golden.Check(t, "plans.txt", b.String())
}
