// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce"
)

// copyLimits are how fast the GPUs copy to and from pinned host memory while they do nothing else, in GB/s of all ranks
// together: what a collective on GPU memory can at best reach on this machine now.
type copyLimits struct {
	ranks, gpus            int
	chunk                  int64
	toHost, toDevice, both float64 // both: each way, at once
}

// line returns the limits as a line of the report's head.
func (l *copyLimits) line() string {
	return fmt.Sprintf("# copy limits, %s on %s: D2H %.1f GB/s, H2D %.1f GB/s, both 2 x %.1f GB/s; per rank both ways %.1f GB/s\n",
		plural(l.ranks, "rank"), plural(l.gpus, "GPU"), l.toHost, l.toDevice, l.both, l.both/float64(l.ranks))
}

// How the limits are measured.
const (
	copyRing   = 4                     // chunks of host memory for each way, so that they do not come from the cache
	copyTime   = 50 * time.Millisecond // of one measurement, about
	copyLeast  = 4                     // chunks in it
	copyMost   = 64
	copyRounds = 3 // the best counts
)

// copyBytes returns the size of one copy: that of the library's chunks.
func copyBytes(c *Config) int64 {
	if c.DeviceChunkBytes > 0 {
		return c.DeviceChunkBytes
	}
	return hfreduce.DefaultDeviceChunkBytes
}

// way is one direction of copies.
type way struct {
	kind   cuda.Kind
	stream cuda.Stream
	host   int64 // offset of its chunks in the host memory
	device cuda.Ptr
}

// copier copies both ways at once.
type copier struct {
	*gpu
	chunk  int64
	host   *cuda.HostMemory
	device cuda.Ptr
	second cuda.Stream // 0 for the default stream
	ways   [2]way      // to the host, to the device
}

// newCopier takes what copies need. The ranks of one process share a stream for the second way: each stream that they make
// takes one of the process's few queues to the GPU away from the collectives (maxThreadsOnGPU).
func newCopier(g *gpu, chunk int64, alone bool) (c *copier, err error) {
	c = &copier{gpu: g, chunk: chunk}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if c.host, err = g.HostAlloc(2 * copyRing * chunk); err != nil {
		return c, err
	}
	if c.device, err = g.Malloc(2 * chunk); err != nil {
		return c, err
	}
	if alone {
		if c.second, err = g.NewStream(false); err != nil {
			return c, err
		}
	}
	c.ways = [2]way{
		{cuda.ToHost, g.stream, 0, c.device},
		{cuda.ToDevice, c.second, copyRing * chunk, c.device + cuda.Ptr(chunk)},
	}
	return c, nil
}

func (c *copier) close() error {
	var errs [3]error
	if c.second != 0 {
		errs[0] = c.DestroyStream(c.second)
	}
	if c.host != nil {
		errs[1] = c.host.Close()
	}
	errs[2] = c.Free(c.device)
	return errors.Join(errs[:]...)
}

// run copies n chunks each way and waits. The ways take turns in the list, so that both begin at once.
func (c *copier) run(ways []way, n int) error {
	c.list.Reset()
	for i := range n {
		for _, w := range ways {
			dst, src := c.host.HostPtr(w.host+int64(i%copyRing)*c.chunk), w.device
			if w.kind == cuda.ToDevice {
				dst, src = src, dst
			}
			c.list.Copy(w.stream, dst, src, c.chunk, w.kind)
		}
	}
	err := c.Run(&c.list)
	for _, w := range ways {
		err = errors.Join(err, c.Synchronize(w.stream))
	}
	return err
}

// copyTimed copies on all ranks at once and returns the seconds of the slowest.
func (r *rank) copyTimed(ctx context.Context, c *copier, ways []way, n int) (float64, error) {
	if err := r.control.barrier(ctx); err != nil {
		return 0, err
	}
	begin := r.clock()
	if err := c.run(ways, n); err != nil {
		return 0, fmt.Errorf("bench: copy limits: %w", err)
	}
	return r.control.reduce(ctx, (r.clock() - begin).Seconds(), hfreduce.Max)
}

// measureCopies measures the limits, on all ranks at once.
func (r *rank) measureCopies(ctx context.Context) (l copyLimits, err error) {
	l = copyLimits{ranks: r.control.comm.WorldSize(), chunk: copyBytes(r.cfg)}
	_, l.gpus = r.sharers()
	c, err := newCopier(r.gpu, l.chunk, r.cfg.Threads == 1)
	if err != nil {
		return l, fmt.Errorf("bench: copy limits: %w", err)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if _, err := r.copyTimed(ctx, c, c.ways[:], copyRing); err != nil { // the first touch of all memory
		return l, err
	}
	once, err := r.copyTimed(ctx, c, c.ways[:], 1)
	if err != nil {
		return l, err
	}
	n := copyMost
	if once*copyMost > copyTime.Seconds() {
		n = max(copyLeast, int(copyTime.Seconds()/once))
	}
	for range copyRounds {
		for _, m := range []struct {
			best *float64
			ways []way
		}{{&l.toHost, c.ways[:1]}, {&l.toDevice, c.ways[1:]}, {&l.both, c.ways[:]}} {
			seconds, err := r.copyTimed(ctx, c, m.ways, n)
			if err != nil {
				return l, err
			}
			if seconds > 0 {
				*m.best = max(*m.best, float64(l.ranks)*float64(n)*float64(l.chunk)/1e9/seconds)
			}
		}
	}
	return l, r.control.barrier(ctx) // memory is given back when nobody copies any more
}
