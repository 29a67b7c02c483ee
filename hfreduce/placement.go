// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"errors"
	"log/slog"
	"os"
	"runtime"
	"slices"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/hostmem"
	"github.com/hfreduce/hfreduce/hfreduce/internal/topo"
	"github.com/hfreduce/hfreduce/internal/cpus"
)

// This file puts memory and threads where GPUs and adapters are near, by the rules of the HFReduce paper (section IV-D1): the
// slots that GPUs fill are interleaved over the NUMA nodes, what is sent and received lies on the adapter's node.

// policy is where a part of a segment shall lie: interleaved over several nodes, or on one.
type policy struct {
	lo, hi int64
	nodes  []int
}

// policies returns where the parts of the segment of a communicator made for GPUs belong; none on a machine with one node.
// nic is the adapter, "" for none: then what is computed is interleaved, too.
func policies(m *topo.Machine, g *engine.Geometry, gpu, nic string, allowed []int) []policy {
	place := topo.Place(m, gpu, nic, "")
	stage := slices.DeleteFunc(slices.Clone(place.Stage), func(n int) bool { return !slices.Contains(allowed, n) })
	if len(stage) < 2 {
		return nil
	}
	results := stage
	if nic != "" && slices.Contains(allowed, place.Result) {
		results = []int{place.Result}
	}
	inLo, inHi, outLo, outHi := g.Areas()
	return []policy{{inLo, inHi, stage}, {outLo, outHi, results}}
}

// prepare returns what sets the policies of a new segment before it has pages, nil where there is nothing to set.
func (f *processFabric) prepare(g *engine.Geometry) func(*hostmem.Segment) error {
	if !g.ForDevices() {
		return nil
	}
	m, err := topo.Read(os.DirFS("/sys"))
	if err != nil {
		f.log.Warn("the machine's topology is not known", "error", err)
		return nil
	}
	nic := f.nic
	if adapters := m.RDMADevices(); nic == "" && f.rdma && len(adapters) > 0 {
		nic = adapters[0]
	}
	allowed, err := hostmem.AllowedNodes()
	if err != nil {
		f.log.Warn("the NUMA nodes of this process are not known", "error", err)
		return nil
	}
	all := policies(m, g, firstGPU(), nic, allowed)
	if len(all) == 0 {
		return nil
	}
	return func(s *hostmem.Segment) error { return apply(s, all, f.log) }
}

// apply sets policies. A system that does not let us is no reason to fail.
func apply(s *hostmem.Segment, all []policy, log *slog.Logger) (err error) {
	for _, p := range all {
		if len(p.nodes) == 1 {
			err = s.Prefer(p.lo, p.hi, p.nodes[0])
		} else {
			err = s.Interleave(p.lo, p.hi, p.nodes)
		}
		if errors.Is(err, errors.ErrUnsupported) {
			log.Warn("memory for GPUs is not placed by NUMA node", "error", err)
			return nil
		}
		if err != nil {
			return err
		}
		log.Info("memory for GPUs", "bytes", p.hi-p.lo, "numa_nodes", p.nodes)
	}
	return nil
}

// near finds the processors near the GPU within those that this process may use.
func (g *gpu) near(c *Comm) {
	m, err := topo.Read(os.DirFS("/sys"))
	allowed, allowedErr := cpus.Allowed()
	if err = errors.Join(err, allowedErr); err != nil {
		c.log.Info("the progress thread is not bound", "cause", err)
		return
	}
	place := topo.Place(m, g.device.Properties().PCIAddress, "", allowed)
	if g.cpus = place.CPUs; g.cpus == allowed {
		g.cpus = "" // bound already
	}
	c.log.Info("progress thread", "rank", c.rank, "cpus", g.cpus.String(), "why", place.Why)
}

// bind keeps the goroutine on a thread near the GPU, until the function that it returns is called.
func (g *gpu) bind(c *Comm) (release func()) {
	if g == nil || g.cpus == "" {
		return func() {}
	}
	runtime.LockOSThread()
	restore, err := cpus.BindThread(g.cpus)
	if err != nil {
		runtime.UnlockOSThread()
		c.log.Warn("the progress thread is not bound", "cpus", g.cpus.String(), "error", err)
		g.cpus = ""
		return func() {}
	}
	return func() {
		restore()
		runtime.UnlockOSThread()
	}
}
