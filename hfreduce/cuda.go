// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/hfreduce/hfreduce/cuda"
)

// The values of Options.CUDA.
const (
	CUDAAuto = "auto" // a CUDA runtime is in this process already: package cuda, PyTorch or whoever else loaded it
	CUDAOn   = "on"   // load it; that it cannot be is an error
	CUDAOff  = "off"
)

// checkCUDA lists what is wrong with the options for GPUs.
func (o *Options) checkCUDA() (errs []error) {
	values := []string{CUDAAuto, CUDAOn, CUDAOff}
	if !slices.Contains(values, o.CUDA) {
		errs = append(errs, fmt.Errorf("CUDA %q is unknown; there are: %s", o.CUDA, strings.Join(values, ", ")))
	}
	if o.DeviceChunkBytes != 0 && (o.DeviceChunkBytes < o.ChunkBytes || o.DeviceChunkBytes > maxChunkBytes || o.DeviceChunkBytes%minChunkBytes != 0) {
		errs = append(errs, fmt.Errorf("DeviceChunkBytes %d is not a multiple of %d between ChunkBytes %d and %d",
			o.DeviceChunkBytes, minChunkBytes, o.ChunkBytes, maxChunkBytes))
	}
	if o.DeviceSlots != 0 && !validSlots(o.DeviceSlots) {
		errs = append(errs, fmt.Errorf("DeviceSlots %d is not a power of two within 1..%d", o.DeviceSlots, maxSlots))
	}
	if o.DeviceThreads < 0 || o.DeviceThreads > maxDeviceThreads {
		errs = append(errs, fmt.Errorf("DeviceThreads %d is not within 0..%d", o.DeviceThreads, maxDeviceThreads))
	}
	return errs
}

// devices reports whether this rank's buffers may lie in the memory of GPUs.
func (o *Options) devices() (bool, error) {
	switch o.CUDA {
	case CUDAOn:
		if err := cuda.Available(); err != nil {
			return false, fmt.Errorf("%w: Options.CUDA is %q: %w", ErrNotSupported, CUDAOn, err)
		}
		return true, nil
	case CUDAAuto:
		return cuda.InProcess(), nil
	}
	return false, nil
}

// What DeviceThreads may be, and what it is at most by itself: where four processors add for a rank they keep up with its
// copies, and others want processors, too.
const (
	maxDeviceThreads     = 64
	defaultDeviceThreads = 4
)

// helpers returns how many threads help this rank to add.
func (c *Comm) helpers() int {
	if c.opts.DeviceThreads > 0 {
		return c.opts.DeviceThreads - 1
	}
	ranks, processors := c.fabric.share()
	return min(processors/max(1, ranks), defaultDeviceThreads, runtime.GOMAXPROCS(0)) - 1
}

// firstGPU returns the PCI address of the first GPU, "" where there is none.
func firstGPU() string {
	d, err := cuda.Open(0)
	if err != nil {
		return ""
	}
	return d.PCIAddress()
}
