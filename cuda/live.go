// SPDX-License-Identifier: Apache-2.0

package cuda

import "sync/atomic"

// resource is a kind of what is made and given back.
type resource int

const (
	streams resource = iota
	events
	allocations
	hostMemories
	mappings
	resources
)

// String returns the name that Live uses.
func (r resource) String() string {
	return [...]string{"streams", "events", "allocations", "host memories", "ipc mappings"}[r]
}

var live [resources]atomic.Int64

// Live returns how many resources of each kind this package made and has not given back: "streams", "events",
// "allocations", "host memories", "ipc mappings". Kinds without any are left out, so that an empty map says that all was
// given back. What CUDA refuses to take back counts on.
func Live() map[string]int {
	m := map[string]int{}
	for r := range resources {
		if n := live[r].Load(); n != 0 {
			m[r.String()] = int(n)
		}
	}
	return m
}

// count adds n to the resources of a kind if the call had success, and returns the error if not.
func (d *Device) count(kind resource, n int64, r result, what string) error {
	if r.code != 0 {
		return d.failed(r, what)
	}
	live[kind].Add(n)
	return nil
}
