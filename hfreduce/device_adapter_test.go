// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// newAdapterWorld is a world of GPUs whose links send from registered memory only, as RDMA adapters do.
func newAdapterWorld(t *testing.T, nodeOf []int) ([]*Comm, []*gpuRank) {
	_, gpus := newGPUWorld(t, nodeOf, smallDeviceChunks)
	o := smallDeviceChunks
	o.CUDA = CUDAOn
	return newWorldOverWith(t, nodeOf, o, func(_ int, inner transport.Transport) transport.Transport {
		return &selective{inner, map[*byte]int{}}
	}), gpus
}

// TestDeviceOverAdapters sums and gathers where what is sent must lie in the segment.
func TestDeviceOverAdapters(t *testing.T) {
	for _, name := range []string{"2x1", "5on2"} {
		t.Run(name, func(t *testing.T) {
			nodeOf := layouts[name]
			comms, gpus := newAdapterWorld(t, nodeOf)
			const d = TypeFloat32
			for _, count := range []int{5, 3000, 100_000} {
				in := inputs(d, count, len(comms), 3)
				want := newOracle(t, nodeOf, d, Sum, nil).reduce(schedule.AllReduce, in, d.Size(), -1)
				all := slices.Concat(in...)
				each(t, comms, func(c *Comm) error {
					g, what := gpus[c.Rank()], fmt.Sprintf("%d elements", count)
					if err := g.expect(what, in[c.Rank()], want, func(p cuda.Ptr) (*Request, error) {
						return c.AllReduceAsync(Device(p, count, d, g.stream), Device(p, count, d, g.stream), Sum)
					}); err != nil {
						return err
					}
					src, err := g.put(in[c.Rank()])
					if err != nil {
						return err
					}
					defer func() { g.used = 0 }()
					return g.expect(what+" gathered", make([]byte, len(all)), all, func(p cuda.Ptr) (*Request, error) {
						return c.AllGatherAsync(Device(p, count*len(comms), d, g.stream), Device(src, count, d, g.stream))
					})
				})
			}
		})
	}
}

// TestDeviceAbortOverAdapters breaks a communicator in the middle: the links are closed before the GPU may fill slots that an
// adapter could still be reading, and then the streams go on.
func TestDeviceAbortOverAdapters(t *testing.T) {
	comms, gpus := newAdapterWorld(t, blocks(2, 2))
	const count = 100_000
	p, err := gpus[0].room(4 * count)
	if err != nil {
		t.Fatal(err)
	}
	b := Device(p, count, TypeFloat32, gpus[0].stream)
	each(t, comms, func(c *Comm) error {
		return c.AllReduce(t.Context(), Host(make([]float32, count)), Host(make([]float32, count)), Sum)
	})
	r, err := comms[0].AllReduceAsync(b, b, Sum) // rank 1 does not come
	if err != nil {
		t.Fatal(err)
	}
	comms[0].Abort(errors.New("enough"))
	if err := r.Wait(t.Context()); !errors.Is(err, ErrAborted) {
		t.Errorf("the call ended with %v, want ErrAborted", err)
	}
	if err := gpus[0].Synchronize(gpus[0].stream); err != nil {
		t.Error(err)
	}
}
