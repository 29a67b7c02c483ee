// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"errors"
	"testing"
)

func TestPipelineOver(t *testing.T) {
	const mib = 1 << 20
	set := func(chunk, slots, deviceChunk, deviceSlots int) Options {
		o := Options{ChunkBytes: chunk, Slots: slots, DeviceChunkBytes: deviceChunk, DeviceSlots: deviceSlots}
		o.defaults()
		return o
	}
	for _, c := range []struct {
		o       Options
		nodes   int
		devices bool
		want    pipeline
	}{
		{set(0, 0, 0, 0), 1, false, pipeline{4, DefaultChunkBytes}},
		{set(0, 0, 0, 0), 2, false, pipeline{4, DefaultChunkBytes}},
		{set(0, 0, 0, 0), 16, false, pipeline{16, DefaultChunkBytes}},
		{set(8192, 0, 0, 0), 128, false, pipeline{32, 8192}},
		{set(0, 2, 0, 0), 128, false, pipeline{2, DefaultChunkBytes}},
		{set(0, 2, 0, 0), 1, true, pipeline{8, 4 * mib}},
		{set(0, 0, 0, 0), 16, true, pipeline{16, 4 * mib}},
		{set(0, 0, 0, 0), 32, true, pipeline{32, 2 * mib}},
		{set(0, 0, 0, 0), 512, true, pipeline{64, 1 * mib}},
		{set(8*mib, 0, 0, 0), 1, true, pipeline{8, 8 * mib}}, // no chunk is smaller than ChunkBytes
		{set(0, 0, 0, 32), 1, true, pipeline{32, 2 * mib}},
		{set(0, 0, 0, 128), 1, true, pipeline{128, 512 << 10}},
		{set(0, 0, 16*mib, 0), 1, true, pipeline{8, 16 * mib}},
		{set(0, 0, 16*mib, 4), 512, true, pipeline{4, 16 * mib}},
	} {
		if err := c.o.checkCUDA(); err != nil {
			t.Errorf("%+v: %v", c.o, err)
		}
		if got := c.o.pipelineOver(c.nodes, c.devices); got != c.want {
			t.Errorf("%d nodes, devices %t, %v: %v, want %v", c.nodes, c.devices, c.o, got, c.want)
		}
	}
}

// TestPipelineOfEachCommunicator: a part of a communicator has the slots that its own nodes need.
func TestPipelineOfEachCommunicator(t *testing.T) {
	comms := newWorld(t, []int{0, 1, 2, 3, 4, 5, 6, 7}, Options{})
	each(t, comms, func(c *Comm) error {
		half, err := c.Split(t.Context(), c.Rank()/4, 0)
		if err != nil {
			return err
		}
		pair, err := half.Split(t.Context(), half.Rank()/2, 0)
		if err != nil {
			return err
		}
		if c.pipeline.slots != 16 || half.pipeline.slots != 8 || pair.pipeline.slots != 4 {
			t.Errorf("rank %d has %d slots on 8 nodes, %d on 4, %d on 2", c.Rank(), c.pipeline.slots, half.pipeline.slots, pair.pipeline.slots)
		}
		for _, of := range []*Comm{c, half, pair} {
			x := make([]float32, 3<<20)
			for i := range x {
				x[i] = 1
			}
			if err := of.AllReduce(t.Context(), Host(x), Host(x), Sum); err != nil {
				return err
			}
			if n := float32(of.WorldSize()); x[0] != n || x[len(x)-1] != n {
				t.Errorf("rank %d: %v and %v, want %v", c.Rank(), x[0], x[len(x)-1], n)
			}
		}
		return errors.Join(pair.Close(t.Context()), half.Close(t.Context()))
	})
}
