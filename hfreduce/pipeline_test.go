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
		local   int
		devices bool
		want    pipeline
	}{
		{set(0, 0, 0, 0), 1, 8, false, pipeline{4, DefaultChunkBytes, 0, 0}},
		{set(0, 0, 0, 0), 2, 8, false, pipeline{4, DefaultChunkBytes, 0, 0}},
		{set(0, 0, 0, 0), 16, 8, false, pipeline{16, DefaultChunkBytes, 0, 4}},
		{set(8192, 0, 0, 0), 128, 8, false, pipeline{32, 8192, 0, 7}},
		{set(0, 2, 0, 0), 128, 8, false, pipeline{2, DefaultChunkBytes, 0, 7}},
		{set(0, 2, 0, 0), 1, 8, true, pipeline{8, 4 * mib, DefaultChunkBytes, 0}},
		{set(0, 0, 0, 0), 16, 8, true, pipeline{16, 4 * mib, DefaultChunkBytes, 0}},
		{set(0, 0, 0, 0), 32, 8, true, pipeline{32, 2 * mib, DefaultChunkBytes, 0}},
		{set(0, 0, 0, 0), 512, 8, true, pipeline{64, 1 * mib, DefaultChunkBytes, 0}},
		{set(8*mib, 0, 0, 0), 1, 8, true, pipeline{8, 8 * mib, 8 * mib, 0}}, // no chunk is smaller than ChunkBytes
		{set(0, 0, 0, 32), 1, 8, true, pipeline{32, 2 * mib, DefaultChunkBytes, 0}},
		{set(0, 0, 0, 128), 1, 8, true, pipeline{128, 512 << 10, DefaultChunkBytes, 0}},
		{set(0, 0, 16*mib, 0), 1, 8, true, pipeline{8, 16 * mib, DefaultChunkBytes, 0}},
		{set(0, 0, 0, 0), 1, 3, true, pipeline{16, 4 * mib, DefaultChunkBytes, 0}},
		{set(0, 0, 0, 0), 1, 4, true, pipeline{8, 4 * mib, DefaultChunkBytes, 0}},
		{set(0, 0, 0, 0), 32, 1, true, pipeline{32, 2 * mib, DefaultChunkBytes, 0}},
		{set(0, 0, 0, 0), 1, 1, false, pipeline{4, DefaultChunkBytes, 0, 0}},
		{set(0, 0, 16*mib, 4), 512, 8, true, pipeline{4, 16 * mib, DefaultChunkBytes, 0}},
	} {
		if err := c.o.checkCUDA(); err != nil {
			t.Errorf("%+v: %v", c.o, err)
		}
		if got := c.o.pipelineOver(c.nodes, c.local, c.devices); got != c.want {
			t.Errorf("%d nodes, %d ranks each, devices %t, %v: %v, want %v", c.nodes, c.local, c.devices, c.o, got, c.want)
		}
	}
}

func TestChunkFor(t *testing.T) {
	const kib, mib = 1 << 10, 1 << 20
	for _, c := range []struct {
		p           pipeline
		bytes, want int64
	}{
		{pipeline{4, 512 * kib, 0, 0}, 1 * mib, 512 * kib},
		{pipeline{8, 512 * kib, 0, 2}, 1 * mib, 256 * kib},
		{pipeline{8, 512 * kib, 0, 2}, 64 * mib, 512 * kib},
		{pipeline{16, 512 * kib, 0, 4}, 1 * mib, 192 * kib},
		{pipeline{16, 512 * kib, 0, 4}, 2 * mib, 256 * kib},
		{pipeline{16, 512 * kib, 0, 4}, 1, 64 * kib},
		{pipeline{32, 512 * kib, 0, 7}, 1 * mib, 144 * kib},
		{pipeline{32, 512 * kib, 0, 7}, 1 << 40, 512 * kib},
		{pipeline{32, 4 * kib, 0, 7}, 1 * mib, 4 * kib}, // what the option says is the most
		{pipeline{32, 2 * mib, 0, 7}, 64 * mib, 1104 * kib},
		{pipeline{8, 4 * mib, 512 * kib, 0}, 1, 512 * kib}, // GPUs
		{pipeline{8, 4 * mib, 512 * kib, 0}, 16 * mib, 1152 * kib},
		{pipeline{8, 4 * mib, 512 * kib, 0}, 256 * mib, 4 * mib},
		{pipeline{4, 4 * kib, 4 * kib, 0}, 1 * mib, 4 * kib},
	} {
		if got := c.p.chunkFor(c.bytes); got != c.want {
			t.Errorf("%v, %d bytes: chunks of %d KiB, want %d", c.p, c.bytes, got/kib, c.want/kib)
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
			x := make([]float32, 1<<19)
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
