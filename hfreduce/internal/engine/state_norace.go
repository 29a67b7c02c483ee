// SPDX-License-Identifier: Apache-2.0

//go:build !race

package engine

// storeState writes a state word. Nobody acts on its value at once and nothing is published by it, so it need not be
// ordered with anything: a plain store of an aligned word costs a tenth of an atomic one, which would be felt in small
// collectives.
func storeState(word *uint64, v uint64) { *word = v }
