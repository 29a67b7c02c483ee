// SPDX-License-Identifier: Apache-2.0

//go:build race

package engine

import "sync/atomic"

// storeState is for the race detector, to which plain stores that others read are a race.
func storeState(word *uint64, v uint64) { atomic.StoreUint64(word, v) }
