// SPDX-License-Identifier: Apache-2.0

package cpus

import "fmt"

// Binding says how ranks of one machine are bound to its processors.
type Binding string

// The bindings.
const (
	Core Binding = "core" // each rank to its share of the processors
	Node Binding = "numa" // each rank to all processors of a NUMA node, ranks in blocks
	None Binding = "none"
)

// ParseBinding returns the binding of a name.
func ParseBinding(name string) (Binding, error) {
	switch b := Binding(name); b {
	case Core, Node, None:
		return b, nil
	}
	return "", fmt.Errorf("cpus: %q is no binding: use %s, %s or %s", name, Core, Node, None)
}

// Place returns where the i-th of n ranks goes that share the processors allowed of a machine with these NUMA nodes.
func (b Binding) Place(allowed Set, nodes []Set, i, n int) Set {
	switch {
	case b == Core:
		return allowed.Share(i, n)
	case b == Node && len(nodes) > 0 && n > 0:
		return nodes[i*len(nodes)/n%len(nodes)]
	}
	return allowed
}
