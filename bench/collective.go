// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"strings"
)

// Collective is a test: one collective and its rules.
type Collective uint8

// The collectives, in the order in which "all" runs them.
const (
	AllReduce Collective = iota
	Reduce
	Broadcast
	ReduceScatter
	AllGather
	Barrier
)

// collectiveNames hold our name and nccl-tests' program, where it has one, of each Collective.
var collectiveNames = [...]struct{ name, program string }{
	AllReduce:     {"allreduce", "all_reduce_perf"},
	Reduce:        {"reduce", "reduce_perf"},
	Broadcast:     {"broadcast", "broadcast_perf"},
	ReduceScatter: {"reducescatter", "reduce_scatter_perf"},
	AllGather:     {"allgather", "all_gather_perf"},
	Barrier:       {"barrier", "barrier_perf"},
}

// Collectives returns all of them.
func Collectives() []Collective {
	return []Collective{AllReduce, Reduce, Broadcast, ReduceScatter, AllGather, Barrier}
}

// String returns the name: "allreduce", "reduce", "broadcast", "reducescatter", "allgather" or "barrier".
func (c Collective) String() string { return collectiveNames[c].name }

// Program returns the name of the nccl-tests program that runs this test, such as "all_reduce_perf".
func (c Collective) Program() string { return collectiveNames[c].program }

// ParseCollectives reads the name of a test: "all", a collective in any spelling ("allreduce", "all_reduce", "AllReduce")
// or the nccl-tests program ("all_reduce_perf").
func ParseCollectives(s string) ([]Collective, error) {
	key := strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
	key = strings.TrimSuffix(key, "perf")
	if key == "all" {
		return Collectives(), nil
	}
	for _, c := range Collectives() {
		if c.String() == key {
			return []Collective{c}, nil
		}
	}
	return nil, fmt.Errorf("unknown collective %q; use allreduce, reduce, broadcast, reduce_scatter, all_gather, barrier or all", s)
}

// reduces reports whether the collective takes an operator.
func (c Collective) reduces() bool { return c == AllReduce || c == Reduce || c == ReduceScatter }

// rooted reports whether the collective has a root.
func (c Collective) rooted() bool { return c == Reduce || c == Broadcast }

// shape says how many elements one call moves.
type shape struct {
	send, recv     int64 // elements of this rank's source and destination
	count          int64 // elements that the report names: of one block for ReduceScatter and AllGather
	sendAt, recvAt int64 // in place: where rank 1's source and destination begin in the one buffer; times rank for others
}

// blockBytes is what blocks of ReduceScatter and AllGather are multiples of, as in nccl-tests.
const blockBytes = 16

// shape returns the shape of a call on a buffer of at most bytes: whole elements, and for ReduceScatter and AllGather
// equal blocks that are multiples of 16 bytes, which can be empty.
func (c Collective) shape(bytes int64, elem, ranks int) shape {
	count := bytes / int64(elem)
	unit := int64(blockBytes / elem)
	block := count / int64(ranks) / unit * unit
	switch c {
	case ReduceScatter:
		return shape{send: block * int64(ranks), recv: block, count: block, recvAt: block}
	case AllGather:
		return shape{send: block, recv: block * int64(ranks), count: block, sendAt: block}
	case Barrier:
		return shape{}
	}
	return shape{send: count, recv: count, count: count}
}

// bandwidth returns the algorithm's and the bus bandwidth in GB/s (1e9 bytes) of calls of this shape that took seconds.
func (c Collective) bandwidth(s shape, elem, ranks int, seconds float64) (alg, bus float64) {
	if seconds <= 0 {
		return 0, 0
	}
	n := float64(ranks)
	alg = float64(max(s.send, s.recv)*int64(elem)) / 1e9 / seconds
	switch c {
	case AllReduce:
		return alg, alg * 2 * (n - 1) / n
	case ReduceScatter, AllGather:
		return alg, alg * (n - 1) / n
	}
	return alg, alg
}
