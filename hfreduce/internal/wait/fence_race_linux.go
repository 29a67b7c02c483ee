// SPDX-License-Identifier: Apache-2.0

//go:build race

package wait

import "sync/atomic"

// fence keeps the atomic store before it in front of the atomic load after it. The race detector's runtime carries out
// atomic stores to memory that Go did not allocate as release stores (golang/go issue 58020): on x86 a plain MOV, which
// a later load overtakes, so that both sides of Dekker's pattern miss each other. An exchange is a full barrier; its word
// is local, since a common one would order goroutines that are not ordered and so hide races.
func fence() {
	var word atomic.Uint32
	word.Swap(1)
}
