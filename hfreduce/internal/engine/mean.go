// SPDX-License-Identifier: Apache-2.0

package engine

import "github.com/hfreduce/hfreduce/hfreduce/internal/schedule"

// This file weighs averages of types in which the sum over some nodes may be too large though the average is not, or what is
// divided first may be too small: what travels is the mean of the inputs that it covers, which is neither. Who adds weighs each part by
// how many ranks it covers.

// weights are those of one node in one tree: of each of its own ranks' inputs, and of its children's means.
type weights struct {
	own      float64
	children [2]float64
}

// weightsIn returns this node's weights in a flow.
func (e *Engine) weightsIn(f *schedule.Flow) weights {
	if f.Pair {
		return weights{own: 1 / float64(e.localSize)} // the other node's mean comes later
	}
	if w, known := e.weights[f.Tree]; known {
		return w
	}
	ranks := func(node int) int { return len(e.cfg.Layout.Nodes[node]) }
	all := float64(f.Tree.Covered(e.node, ranks))
	w := weights{own: 1 / all}
	child, n := f.Tree.Children(e.node)
	for i, c := range child[:n] {
		w.children[i] = float64(f.Tree.Covered(c, ranks)) / all
	}
	if e.weights == nil {
		e.weights = map[schedule.Tree]weights{}
	}
	e.weights[f.Tree] = w
	return w
}

// weigh replaces e.scales by the weights of two parts in e.srcs that cover a and b ranks, or as many nodes of equal size.
func (e *Engine) weigh(a, b int) []float64 {
	all := float64(a + b)
	e.scales = append(e.scales[:0], float64(a)/all, float64(b)/all)
	return e.scales
}
