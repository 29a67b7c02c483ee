// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"cmp"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// pipeline says how the pipeline of a communicator is cut: equal on all ranks.
type pipeline struct {
	slots int
	chunk int // bytes at most
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
		return pipeline{cmp.Or(o.Slots, DefaultSlots(nodes)), o.ChunkBytes}
	}
	slots := cmp.Or(o.DeviceSlots, max(minDeviceSlots, DefaultSlots(nodes)))
	chunk := min(DefaultDeviceChunkBytes, deviceRingBytes/slots)
	return pipeline{slots, cmp.Or(o.DeviceChunkBytes, max(chunk, o.ChunkBytes))}
}
