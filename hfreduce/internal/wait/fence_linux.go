// SPDX-License-Identifier: Apache-2.0

//go:build !race

package wait

// fence is nothing: the atomic store before it and the atomic load after it stay in order (see the package comment).
func fence() {}
