// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"math/bits"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// Stats are counters of one communicator on one rank since its start. They only grow, except where noted.
type Stats struct {
	Collectives []CollectiveStats // one for each kind of collective
	Links       []LinkStats       // one for each transport in use

	Device *DeviceStats // what this rank's GPU did; nil before the first collective with a buffer of it

	StagedBytes    uint64 // input copied into the segment so that the node's other ranks can reduce it
	AllocatedBytes int64  // live memory from Comm.Alloc (goes up and down)
	SegmentBytes   int64  // size of the node's staging segment, shared by the node's ranks

	ConnectionsAccepted uint64         // on this rank's port, for all its communicators
	ConnectionsRefused  uint64         // strangers and failed hellos
	Refused             []RefusedStats // the same by reason, one entry for each; nil for ranks of NewLocal

	Broken bool // a fault or Abort broke the Comm
}

// DeviceStats count what this rank's GPU copied, and how long the phases of its collectives took, seen from the processor:
// for how long at least one chunk was in the phase. Phases overlap. What waits for the caller's stream counts as filling.
type DeviceStats struct {
	FilledBytes, DrainedBytes uint64 // copied from the GPU, and to it

	FillSeconds    float64 // copies from the GPU, and what they wait for
	ReduceSeconds  float64 // additions on this rank
	NetworkSeconds float64 // from the node's inputs being there until this rank's share is sent and received
	DrainSeconds   float64 // copies to the GPU
}

// CollectiveStats count the calls of one kind of collective.
type CollectiveStats struct {
	Name    string  // "allreduce", "reduce", "broadcast", "reducescatter", "allgather" or "barrier"
	Calls   uint64  // ended, with or without error
	Errors  uint64  // ended with an error; calls refused for their arguments do not count
	Bytes   uint64  // size of the buffers; for reducescatter and allgather of all ranks' blocks together
	Seconds float64 // from start to end
	// Buckets is a histogram of durations with cumulative counts, ascending; what took longer than the last bound is
	// only in Calls.
	Buckets []Bucket
}

// Bucket counts the calls that took at most UpperSeconds.
type Bucket struct {
	UpperSeconds float64
	Count        uint64
}

// LinkStats count what went over a transport.
type LinkStats struct {
	Transport                      string // "verbs", "tcp" or "mem"
	Peers                          int    // connected ranks
	SentBytes, ReceivedBytes       uint64 // payload
	SentMessages, ReceivedMessages uint64
}

const (
	bucketShift = 10 // nanoseconds to (about) microseconds
	bucketCount = 25 // 1.024 us to 17 s
)

// counters are the Comm's own.
type counters struct {
	started atomic.Uint64
	kinds   [schedule.Barrier + 1]kindCounters
}

type kindCounters struct {
	calls, errors, bytes, nanoseconds atomic.Uint64
	buckets                           [bucketCount]atomic.Uint64
}

// begin returns the number of a collective that starts, from 1.
func (s *counters) begin(schedule.Collective) uint64 { return s.started.Add(1) }

func (s *counters) end(kind schedule.Collective, bytes int64, took time.Duration, err error) {
	k := &s.kinds[kind]
	k.calls.Add(1)
	k.bytes.Add(uint64(bytes))
	k.nanoseconds.Add(uint64(took))
	if err != nil {
		k.errors.Add(1)
	}
	if b := bucketOf(took); b < bucketCount {
		k.buckets[b].Add(1)
	}
}

// failed counts the error of a call that has ended without one, but for its GPU's last copies.
func (s *counters) failed(kind schedule.Collective) { s.kinds[kind].errors.Add(1) }

// bucketOf returns the index of the first bucket whose bound is not below d; bucket b ends at 2^b * 1.024 us.
func bucketOf(d time.Duration) int {
	if d <= 1<<bucketShift {
		return 0
	}
	return bits.Len64(uint64(d-1) >> bucketShift)
}

// Stats returns the communicator's counters. It may be called at any time from any goroutine.
func (c *Comm) Stats() Stats {
	st := Stats{StagedBytes: c.engine.Counters().StagedBytes.Load(), AllocatedBytes: c.memories.bytes.Load(), SegmentBytes: c.segmentBytes, Broken: c.cause.Load() != nil}
	st.ConnectionsAccepted, st.Refused = c.fabric.strangers()
	for _, r := range st.Refused {
		st.ConnectionsRefused += r.Count
	}
	if c.devices.gpu.Load() != nil {
		st.Device = deviceStats(c.engine.Phases())
	}
	for kind := range schedule.Barrier + 1 {
		st.Collectives = append(st.Collectives, c.stats.kinds[kind].snapshot(kind))
	}
	for _, n := range c.engine.Counters().Links() {
		st.Links = append(st.Links, LinkStats{
			Transport: n.Transport, Peers: int(n.Peers.Load()),
			SentBytes: n.SentBytes.Load(), ReceivedBytes: n.ReceivedBytes.Load(),
			SentMessages: n.SentMessages.Load(), ReceivedMessages: n.ReceivedMessages.Load(),
		})
	}
	return st
}

func deviceStats(p *engine.PhaseCounters) *DeviceStats {
	return &DeviceStats{
		FilledBytes: p.FilledBytes.Load(), DrainedBytes: p.DrainedBytes.Load(),
		FillSeconds: p.Time(engine.PhaseFill).Seconds(), ReduceSeconds: p.Time(engine.PhaseReduce).Seconds(),
		NetworkSeconds: p.Time(engine.PhaseNetwork).Seconds(), DrainSeconds: p.Time(engine.PhaseDrain).Seconds(),
	}
}

func (k *kindCounters) snapshot(kind schedule.Collective) CollectiveStats {
	s := CollectiveStats{
		Name: strings.ToLower(kind.String()), Errors: k.errors.Load(), Bytes: k.bytes.Load(),
		Seconds: time.Duration(k.nanoseconds.Load()).Seconds(), Buckets: make([]Bucket, bucketCount),
	}
	count := uint64(0)
	for b := range s.Buckets {
		count += k.buckets[b].Load()
		s.Buckets[b] = Bucket{UpperSeconds: time.Duration(1 << (bucketShift + b)).Seconds(), Count: count}
	}
	s.Calls = max(k.calls.Load(), count) // buckets may have moved on since
	return s
}
