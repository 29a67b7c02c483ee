// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce"
)

// gpu is what a rank uses its GPU with.
type gpu struct {
	*cuda.Device
	stream  cuda.Stream      // of the calls that are measured
	staging *cuda.HostMemory // pinned, between buffers and their images
	list    cuda.Commands
}

// stagingBytes is how much is copied at once between a buffer and its image.
const stagingBytes = 8 << 20

// CheckGPUs reports why buffers cannot be in GPU memory here as the configuration wants it: what CUDA lacks, or that this
// process sees fewer GPUs than Config.GPUs. Without GPUs it loads nothing.
func (c *Config) CheckGPUs() error {
	if c.GPUs <= 0 {
		return nil
	}
	if err := cuda.Available(); err != nil {
		return fmt.Errorf("bench: -g %d needs CUDA: %w", c.GPUs, err)
	}
	n, err := cuda.DeviceCount()
	if err != nil {
		return fmt.Errorf("bench: -g %d: %w", c.GPUs, err)
	}
	if c.GPUs > n {
		return fmt.Errorf("bench: -g %d: this process sees %s; give at most -g %d, ranks may share a GPU: %w",
			c.GPUs, plural(n, "GPU"), n, hfreduce.ErrInvalid)
	}
	return nil
}

// SharedGPUs says that a node's ranks share GPUs while others of it are idle, "" if they do not.
func (c *Config) SharedGPUs(ranks int) string {
	if c.GPUs <= 0 || ranks <= c.GPUs {
		return ""
	}
	n, err := cuda.DeviceCount()
	if err != nil || n <= c.GPUs {
		return ""
	}
	return fmt.Sprintf("the %d ranks of this node share %d of its %s: -g is for a node here, where nccl-tests' is for a thread; give -g %d",
		ranks, c.GPUs, plural(n, "GPU"), min(ranks, n))
}

// plural writes a number of things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// openGPU opens a GPU and makes its context, so that what that costs in memory is known to all who ask for free memory.
func openGPU(ordinal int) (g *gpu, err error) {
	d, err := cuda.Open(ordinal)
	if err != nil {
		return nil, err
	}
	g = &gpu{Device: d}
	if g.stream, err = d.NewStream(false); err != nil {
		return nil, err
	}
	if g.staging, err = d.HostAlloc(stagingBytes); err != nil {
		return nil, errors.Join(err, d.DestroyStream(g.stream))
	}
	return g, nil
}

func (g *gpu) close() error {
	if g == nil {
		return nil
	}
	return errors.Join(g.staging.Close(), g.DestroyStream(g.stream))
}

// copy copies between ordinary memory and the GPU's, and waits. What was given to the stream before is done first.
func (g *gpu) copy(image []byte, p cuda.Ptr, k cuda.Kind) error {
	host, at := g.staging.Bytes(), g.staging.HostPtr(0)
	for n := 0; len(image) > 0; image, p = image[n:], p+cuda.Ptr(n) {
		n = min(len(image), len(host))
		dst, src := p, at
		if k == cuda.ToHost {
			dst, src = at, p
		} else {
			copy(host, image[:n])
		}
		g.list.Reset()
		g.list.Copy(g.stream, dst, src, int64(n), k)
		if err := errors.Join(g.Run(&g.list), g.Synchronize(g.stream)); err != nil {
			return err
		}
		if k == cuda.ToHost {
			copy(image, host[:n])
		}
	}
	return nil
}

// takeGPU opens this rank's GPU and tells all ranks of it.
func (r *rank) takeGPU(ctx context.Context) (err error) {
	if r.cfg.GPUs == 0 {
		return nil
	}
	world := r.control.comm
	if r.gpu, err = openGPU(world.LocalRank() % r.cfg.GPUs); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	p := r.gpu.Properties()
	own := encodeGPU(r.gpu.Ordinal(), strings.TrimSuffix(p.PCIAddress, ".0"), p.Name)
	all := make([]byte, len(own)*world.WorldSize())
	if err := world.AllGather(ctx, hfreduce.Bytes(all, hfreduce.TypeUint8), hfreduce.Bytes(own, hfreduce.TypeUint8)); err != nil {
		return err
	}
	for i, info := range world.Ranks() {
		d := &r.devices[i]
		d.device, d.address, d.name = decodeGPU(all[i*len(own):][:len(own)])
		d.machine = info.Machine
	}
	return nil
}

// A GPU as ranks tell each other of it: number, address and name, filled up with zeros.
const gpuNumberBytes, gpuAddressBytes, gpuNameBytes = 4, 16, 76

func encodeGPU(ordinal int, address, name string) []byte {
	b := make([]byte, gpuNumberBytes+gpuAddressBytes+gpuNameBytes)
	binary.LittleEndian.PutUint32(b, uint32(ordinal))
	copy(b[gpuNumberBytes:][:gpuAddressBytes], address)
	copy(b[gpuNumberBytes+gpuAddressBytes:], name)
	return b
}

func decodeGPU(b []byte) (ordinal int, address, name string) {
	text := func(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
	return int(binary.LittleEndian.Uint32(b)), text(b[gpuNumberBytes:][:gpuAddressBytes]), text(b[gpuNumberBytes+gpuAddressBytes:])
}

// sharers returns how many ranks use this rank's GPU, and how many GPUs there are.
func (r *rank) sharers() (sharing, gpus int) {
	type place struct{ machine, address string }
	own := r.devices[r.control.comm.Rank()]
	seen := map[place]int{}
	for _, d := range r.devices {
		seen[place{d.machine, d.address}]++
	}
	return seen[place{own.machine, own.address}], len(seen)
}

// gpuReserve is GPU memory that stays free for the library and the contexts of ranks.
const gpuReserve = 1 << 30

// gpuLimit returns the largest buffer that this rank's GPU has memory for: each of the ranks that share it has two.
func (r *rank) gpuLimit() (int64, error) {
	if r.gpu == nil {
		return plenty, nil
	}
	free, _, err := r.gpu.MemInfo()
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	sharing, _ := r.sharers()
	extra := areaBytes(0, r.cfg.Unalign) + 2*copyBytes(r.cfg)
	return max(0, (free-gpuReserve)/int64(2*sharing)-extra), nil
}

// gpuSharing says how many ranks share this rank's GPU, for an error of memory.
func (r *rank) gpuSharing() string {
	if r.gpu == nil {
		return ""
	}
	sharing, _ := r.sharers()
	return fmt.Sprintf(", and %d GPU %d", sharing, r.gpu.Ordinal())
}
