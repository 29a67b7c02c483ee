// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"cmp"
	"math"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// pipeline says how the pipeline of a communicator is cut: equal on all ranks.
type pipeline struct {
	slots int
	chunk int // bytes at most
	least int // made for GPUs: bytes at least, if the buffer has so many; else 0
	depth int // of the trees, where that has a say in the chunk: 0 on one node and in a pair, and with GPUs
}

// DefaultSlots returns what Slots is in a communicator over so many nodes if it is left open: 4 on one or two nodes, and
// more with the depth of the trees, 32 on 128 nodes, since a chunk is under way until its sum has come back from the root.
func DefaultSlots(nodes int) int { return schedule.Slots(nodes) }

// What DeviceSlots is by itself. The slots of a rank hold deviceRingBytes at most, but for ChunkBytes; GPUs get their work in larger
// pieces, and bear it better that a process has to wait for its turn, where that is so much. But what all slots of a node hold should
// stay in the processor's caches, between the copies and the additions, so that is for few ranks (docs/performance.md).
const (
	minDeviceSlots  = 8
	fewDeviceSlots  = 16
	deviceRingBytes = 64 << 20
	nodeRingBytes   = 256 << 20
)

// deviceSlots returns how many slots GPUs have by themselves where nodes have so many ranks at most.
func deviceSlots(local int) int {
	if (local+1)*deviceRingBytes <= nodeRingBytes { // their inputs and the results
		return fewDeviceSlots
	}
	return minDeviceSlots
}

// pipelineOver returns the pipeline of a communicator over so many nodes of at most so many ranks, which may be made for GPUs.
func (o *Options) pipelineOver(nodes, local int, devices bool) pipeline {
	if !devices {
		return pipeline{cmp.Or(o.Slots, DefaultSlots(nodes)), o.ChunkBytes, 0, treeDepth(nodes)}
	}
	slots := cmp.Or(o.DeviceSlots, max(deviceSlots(local), DefaultSlots(nodes)))
	chunk := min(DefaultDeviceChunkBytes, deviceRingBytes/slots)
	return pipeline{slots, cmp.Or(o.DeviceChunkBytes, max(chunk, o.ChunkBytes)), o.ChunkBytes, 0}
}

func treeDepth(nodes int) int {
	if nodes <= 2 {
		return 0
	}
	return schedule.DoubleBinary(nodes)[0].Depth()
}

// A node of a tree sends a chunk on when it has all of it, so what the pipeline takes to fill grows with the chunk and with the
// depth, while each chunk costs a message of its own. The best chunk then grows with the root of buffer x latency x bandwidth / depth.
// Latency x bandwidth is about the same for 5 us and 200 Gbit/s, and for 30 us and 40 Gbit/s. Measured in docs/performance.md.
const (
	latencyBandwidth = 128 << 10
	minTreeChunk     = 64 << 10
	treeChunkUnit    = 16 << 10
)

// In a communicator made for GPUs the chunk grows with the buffer. What a chunk costs (4-9 us of calls, 5 us between two
// copies) against how long the pipeline takes to fill (some chunks) has its optimum near the root of the buffer's size. The
// processor adds faster what was copied a moment ago, so more than DeviceChunkBytes makes it slower again, though the call
// would be shorter. Measured in docs/performance.md.
const (
	deviceChunkFactor = 80 << 10
	deviceChunkUnit   = 64 << 10
)

// chunkFor returns the largest item of a collective over so many bytes, equal on all ranks.
func (p *pipeline) chunkFor(bytes int64) int64 {
	best := int64(p.chunk)
	switch {
	case p.least > 0:
		best = rootOf(bytes, deviceChunkFactor, int64(p.least), deviceChunkUnit)
	case p.depth > 0:
		best = rootOf(bytes, latencyBandwidth/float64(p.depth), minTreeChunk, treeChunkUnit)
	}
	return min(best, int64(p.chunk))
}

// rootOf returns the root of bytes x factor, or least if that is more, rounded up to a multiple of unit.
func rootOf(bytes int64, factor float64, least, unit int64) int64 {
	return (max(int64(math.Sqrt(float64(bytes)*factor)), least) + unit - 1) / unit * unit
}
