// SPDX-License-Identifier: Apache-2.0

package schedule

import "slices"

// breakage is one way to break a plan. A verifier that cannot fail is worthless:
// each breakage must be found, and said what it is.
type breakage struct {
	name       string
	collective Collective
	apply      func(l *Layout, m *model)
	want       []string // one of these in the error, by the order of events
}

// rewriteItems replaces the items of one node (or of all, node -1).
func rewriteItems(m *model, node int, rewrite func([]Item) []Item) {
	right := m.items
	m.items = func(v int) []Item {
		if node >= 0 && v != node {
			return right(v)
		}
		return rewrite(slices.Clone(right(v)))
	}
}

// moveCut shifts the bounds of shard 1 on one node (or all, node -1).
func moveCut(m *model, node int, lo, hi int64) {
	right := m.cut
	m.cut = func(v int, it Item, s int) (int64, int64) {
		a, b := right(v, it, s)
		if s == 1 && (node < 0 || v == node) {
			return a + lo, b + hi
		}
		return a, b
	}
}

func changeFlow(m *model, change func(i int, f *Flow)) {
	right := m.flow
	m.flow = func(i int) Flow {
		f := right(i)
		change(i, &f)
		return f
	}
}

func changeInputs(m *model, node int, change func([]int) []int) {
	right := m.inputs
	m.inputs = func(v int, f Flow, rank int) []int {
		ranks := right(v, f, rank)
		if v == node {
			return change(slices.Clone(ranks))
		}
		return ranks
	}
}

func without(flow int) func([]Item) []Item {
	return func(items []Item) []Item {
		return slices.DeleteFunc(items, func(it Item) bool { return it.Flow == flow })
	}
}

func dropLast(items []Item) []Item { return items[:len(items)-1] }

func swapFirst(items []Item) []Item {
	items[0], items[1] = items[1], items[0]
	return items
}

// itemBreakages change what the items are.
var itemBreakages = []breakage{
	{"a flow is dropped", AllReduce, func(_ *Layout, m *model) { rewriteItems(m, -1, without(1)) }, []string{"is never written"}},
	{"a block is dropped", AllGather, func(_ *Layout, m *model) { rewriteItems(m, -1, without(2)) }, []string{"is never written"}},
	{"the last chunk is dropped", Broadcast, func(_ *Layout, m *model) { rewriteItems(m, -1, dropLast) }, []string{"is never written"}},
	{"a node drops the last item", AllReduce, func(_ *Layout, m *model) { rewriteItems(m, 3, dropLast) }, []string{"deadlock"}},
	{"a node drops the last chunk from above", Broadcast, func(_ *Layout, m *model) { rewriteItems(m, 3, dropLast) }, []string{"waits for a grant", "waits for parent"}},
	{"the barrier is dropped", Barrier, func(_ *Layout, m *model) { rewriteItems(m, -1, dropLast) }, []string{"passes the barrier 0 times"}},
	{"the barrier is passed twice", Barrier, func(_ *Layout, m *model) {
		rewriteItems(m, -1, func(items []Item) []Item { return append(items, items[0]) })
	}, []string{"passes the barrier 2 times"}},
	{"an item comes twice", AllReduce, func(_ *Layout, m *model) {
		rewriteItems(m, -1, func(items []Item) []Item { return append(items, items[0]) })
	}, []string{"written twice"}},
	{"a block comes twice", ReduceScatter, func(_ *Layout, m *model) {
		rewriteItems(m, -1, func(items []Item) []Item { return append(items, items[1]) })
	}, []string{"written twice"}},
	{"a flow runs into the next", Reduce, func(_ *Layout, m *model) {
		rewriteItems(m, -1, func(items []Item) []Item {
			for i := range items {
				if items[i].Flow == 0 {
					items[i].Hi += align
				}
			}
			return items
		})
	}, []string{"written twice"}},
	{"a node has another order", AllReduce, func(_ *Layout, m *model) { rewriteItems(m, 2, swapFirst) }, []string{"item 0 is", "item 1 is"}},
	{"a node has another order of blocks", ReduceScatter, func(_ *Layout, m *model) { rewriteItems(m, 4, swapFirst) }, []string{"item 0 is", "item 1 is"}},
	{"a node cuts a shard elsewhere", AllReduce, func(_ *Layout, m *model) { moveCut(m, 3, align, 0) }, []string{"differently"}},
	{"a node cuts a shard elsewhere, down", AllGather, func(_ *Layout, m *model) { moveCut(m, 3, 0, -align) }, []string{"differently"}},
	{"a gap between shards", AllReduce, func(_ *Layout, m *model) { moveCut(m, -1, align, 0) }, []string{"is never written"}},
	{"shards overlap", ReduceScatter, func(_ *Layout, m *model) { moveCut(m, -1, -align, 0) }, []string{"written twice"}},
}

// treeBreakages change who sends what to whom.
var treeBreakages = []breakage{
	{"a rank of another node is added", AllReduce, func(l *Layout, m *model) {
		changeInputs(m, 2, func(ranks []int) []int { return append(ranks, l.Nodes[3][0]) })
	}, []string{"twice"}},
	{"a node adds a rank twice", ReduceScatter, func(_ *Layout, m *model) {
		changeInputs(m, 2, func(ranks []int) []int { return append(ranks, ranks[0]) })
	}, []string{"twice"}},
	{"a rank is forgotten", Reduce, func(_ *Layout, m *model) {
		changeInputs(m, 1, func(ranks []int) []int { return ranks[1:] })
	}, []string{"lacks rank"}},
	{"a node is forgotten", Barrier, func(_ *Layout, m *model) {
		changeInputs(m, 4, func([]int) []int { return nil })
	}, []string{"lacks rank"}},
	{"a leaf is forgotten", AllReduce, func(_ *Layout, m *model) {
		changeInputs(m, 3, func([]int) []int { return nil })
	}, []string{"lacks rank"}},
	{"the source adds another rank", Broadcast, func(_ *Layout, m *model) {
		changeInputs(m, 1, func(ranks []int) []int { return append(ranks, 0) })
	}, []string{"only 1 belong"}},
	{"the sum is not sent up", AllReduce, func(_ *Layout, m *model) {
		changeFlow(m, func(i int, f *Flow) { f.Up = i == 0 })
	}, []string{"lacks rank"}},
	{"the result is not sent down", AllReduce, func(_ *Layout, m *model) {
		changeFlow(m, func(i int, f *Flow) { f.Down = i == 0 })
	}, []string{"is never written"}},
	{"results are sent to all", ReduceScatter, func(_ *Layout, m *model) {
		changeFlow(m, func(_ int, f *Flow) { f.Down = true })
	}, []string{"must not be"}},
	{"the tree of another root", Reduce, func(_ *Layout, m *model) {
		changeFlow(m, func(i int, f *Flow) { f.Tree = RootedPair(5, 3)[i] })
	}, []string{"must not be", "is never written"}},
	{"the tree of another source", Broadcast, func(_ *Layout, m *model) {
		changeFlow(m, func(i int, f *Flow) { f.Tree = RootedPair(5, 3)[i] })
	}, []string{"lacks rank"}},
	{"the tree of another block", AllGather, func(_ *Layout, m *model) {
		changeFlow(m, func(i int, f *Flow) { f.Tree = Rotated(5, (i+1)%5) })
	}, []string{"lacks rank"}},
	{"nodes wait for each other", AllReduce, func(_ *Layout, m *model) {
		m.children = func(f Flow, v int) ([2]int, int) {
			c, count := f.Tree.Children(v)
			if p := f.Tree.Parent(v); count == 0 && p >= 0 { // each leaf waits for its parent
				return [2]int{p}, 1
			}
			return c, count
		}
	}, []string{"deadlock"}},
	{"a node waits for a grandchild", Reduce, func(_ *Layout, m *model) {
		m.children = func(f Flow, v int) ([2]int, int) {
			c, count := f.Tree.Children(v)
			if p := f.Tree.Parent(v); v == f.Tree.Root() || p != f.Tree.Root() {
				return c, count
			}
			grand, _ := f.Tree.Children(c[0])
			return [2]int{c[0], grand[0]}, 2
		}
	}, []string{"deadlock", "does not expect"}},
	{"a root ignores its child", AllReduce, func(_ *Layout, m *model) {
		m.children = func(f Flow, v int) ([2]int, int) {
			if c, count := f.Tree.Children(v); v != f.Tree.Root() {
				return c, count
			}
			return [2]int{}, 0
		}
	}, []string{"lacks rank"}},
	{"nodes ignore their first child", Reduce, func(_ *Layout, m *model) {
		m.children = func(f Flow, v int) ([2]int, int) {
			c, count := f.Tree.Children(v)
			if count == 2 && v != f.Tree.Root() {
				return [2]int{c[1]}, 1
			}
			return c, count
		}
	}, []string{"does not expect", "has finished it", "lacks rank"}},
	{"a node sends to the root instead of its parent", ReduceScatter, func(_ *Layout, m *model) {
		m.parent = func(f Flow, v int) int {
			if p := f.Tree.Parent(v); p < 0 {
				return p
			}
			return f.Tree.Root()
		}
	}, []string{"does not expect", "has finished it"}},
	{"a node forwards to nobody", Broadcast, func(_ *Layout, m *model) {
		m.children = func(f Flow, v int) ([2]int, int) {
			c, count := f.Tree.Children(v)
			if v == 3 && count < 2 {
				c[count] = -1
				count++
			}
			return c, count
		}
	}, []string{"to node -1, which does not exist"}},
	{"a node sends to nobody", AllReduce, func(_ *Layout, m *model) {
		m.parent = func(f Flow, v int) int {
			if f.Tree.Parent(v) < 0 {
				return -1
			}
			return 5
		}
	}, []string{"to node 5, which does not exist"}},
}
