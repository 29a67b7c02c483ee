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
	depth int // of the trees, where that has a say in the chunk: 0 on one node and in a pair
}

// DefaultSlots returns what Slots is in a communicator over so many nodes if it is left open: 4 on one or two nodes, and
// more with the depth of the trees, 32 on 128 nodes, since a chunk is under way until its sum has come back from the root.
func DefaultSlots(nodes int) int { return schedule.Slots(nodes) }

// minDeviceSlots is the least that DeviceSlots is by itself, and deviceRingBytes what a rank's slots then hold at most, but
// for ChunkBytes.
const (
	minDeviceSlots  = 8
	deviceRingBytes = 64 << 20
)

// pipelineOver returns the pipeline of a communicator over so many nodes, which may be made for GPUs.
func (o *Options) pipelineOver(nodes int, devices bool) pipeline {
	if !devices {
		return pipeline{cmp.Or(o.Slots, DefaultSlots(nodes)), o.ChunkBytes, treeDepth(nodes)}
	}
	slots := cmp.Or(o.DeviceSlots, max(minDeviceSlots, DefaultSlots(nodes)))
	chunk := min(DefaultDeviceChunkBytes, deviceRingBytes/slots)
	return pipeline{slots, cmp.Or(o.DeviceChunkBytes, max(chunk, o.ChunkBytes)), 0}
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

// chunkFor returns the largest item of a collective over so many bytes, equal on all ranks.
func (p *pipeline) chunkFor(bytes int64) int64 {
	if p.depth == 0 {
		return int64(p.chunk)
	}
	best := int64(math.Sqrt(float64(bytes) * latencyBandwidth / float64(p.depth)))
	best = max(minTreeChunk, (best+treeChunkUnit-1)/treeChunkUnit*treeChunkUnit)
	return min(best, int64(p.chunk))
}
