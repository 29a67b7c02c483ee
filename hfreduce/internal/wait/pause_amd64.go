// SPDX-License-Identifier: Apache-2.0

package wait

// Pause executes n PAUSE instructions: it tells the core that this is a spin loop, which saves power and leaves the
// execution units to the sibling thread. One takes some 10 to 50 ns, depending on the processor. Keep n small (below a
// few hundred): the runtime cannot preempt it.
//
//go:noescape
func Pause(n int)
