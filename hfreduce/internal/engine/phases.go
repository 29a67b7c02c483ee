// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"sync/atomic"
	"time"
)

// Phase is a part of the way of an item, in a collective that a device takes part in.
type Phase int

// The phases.
const (
	PhaseFill    Phase = iota // from the item's turn until the device has copied its input into the slot
	PhaseReduce               // adding
	PhaseNetwork              // from the node's inputs being there until the own shard has nothing more to send or receive
	PhaseDrain                // from the result being there until the device has copied it out
	phaseCount
)

// PhaseCounters tell for how long at least one item, or shard, was in a phase. They may be read at any time.
type PhaseCounters struct {
	FilledBytes, DrainedBytes atomic.Uint64
	nanoseconds               [phaseCount]atomic.Int64
}

// Time returns how long at least one item was in a phase.
func (c *PhaseCounters) Time(p Phase) time.Duration {
	return time.Duration(c.nanoseconds[p].Load())
}

// phaseClock follows who is in which phase.
type phaseClock struct {
	counters PhaseCounters
	inside   [phaseCount]int
	since    [phaseCount]time.Duration
}

// began is when this process began to count time.
var began = time.Now()

func (p *phaseClock) enter(phase Phase) {
	if p.inside[phase]++; p.inside[phase] == 1 {
		p.since[phase] = time.Since(began)
	}
}

func (p *phaseClock) leave(phase Phase) {
	if p.inside[phase]--; p.inside[phase] == 0 {
		p.counters.nanoseconds[phase].Add(int64(time.Since(began) - p.since[phase]))
	}
}
