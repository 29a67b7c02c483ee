// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hfreduce/hfreduce/bench"
	"github.com/hfreduce/hfreduce/hfreduce"
)

// benchCommand has nccl-tests' flags, letter by letter, and some of ours.
type benchCommand struct {
	Collective []string `arg:"" optional:"" help:"allreduce (default), reduce, broadcast, reduce_scatter, all_gather, barrier, or all; nccl-tests' program names do too."`

	Threads    int    `name:"nthreads" short:"t" default:"1" help:"Ranks of each process."`
	GPUs       int    `name:"gpus" aliases:"ngpus" short:"g" default:"0" help:"Buffers in GPU memory, on the first so many GPUs of each node, which its ranks use in turn; 0 for host memory."`
	MinBytes   size   `name:"minbytes" short:"b" default:"32M" help:"First size, with K, M or G for 2^10, 2^20, 2^30."`
	MaxBytes   size   `name:"maxbytes" short:"e" default:"32M" help:"Last size."`
	StepBytes  size   `name:"stepbytes" short:"i" default:"1M" help:"Increment from size to size."`
	StepFactor int64  `name:"stepfactor" short:"f" default:"1" help:"Factor from size to size, instead of the increment."`
	Iters      int    `name:"iters" short:"n" default:"20" help:"Timed iterations."`
	Warmup     int    `name:"warmup_iters" short:"w" default:"1" help:"Iterations before that."`
	Aggregate  int    `name:"agg_iters" short:"m" default:"1" help:"Calls in flight together in one iteration."`
	Cycles     int    `name:"run_cycles" short:"N" default:"1" help:"Repeat the sweep so often; 0 for ever."`
	Parallel   onOff  `name:"parallel_init" short:"p" default:"0" help:"Accepted; ranks always start in parallel."`
	Check      int    `name:"check" short:"c" default:"1" help:"Verifications of each measurement; 0 for none."`
	Op         ops    `name:"op" short:"o" default:"sum" help:"sum, prod, min, max, avg, mulsum or all."`
	Type       types  `name:"datatype" short:"d" default:"float" help:"int8, uint8, int32, uint32, int64, uint64, half, float, double, bfloat16, f8e4m3, f8e5m2 or all."`
	Root       root   `name:"root" short:"r" default:"0" help:"Root of reduce and broadcast, or all."`
	Blocking   int    `name:"blocking" short:"z" default:"0" help:"1: wait and barrier after each call; 2: wait after each call; 3: wait and barrier, which is not timed, after each iteration."`
	Timeout    int64  `name:"timeout" short:"T" default:"0" help:"Seconds that a measurement may take; 0 for no limit."`
	CPUTime    onOff  `name:"report_cputime" short:"C" default:"0" help:"1: report the time to start a call."`
	Timestamps onOff  `name:"report_timestamps" short:"S" default:"0" help:"1: add a column with the time of day."`
	Output     string `name:"output_file" short:"J" placeholder:"FILE.json" help:"Write a JSON document."`
	Average    int    `name:"average" short:"a" default:"1" help:"Of the ranks' times take that of rank 0 (0), the mean (1), minimum (2), maximum (3)."`
	Unalign    int    `name:"unalign" short:"u" default:"0" help:"Move buffers by so many elements."`
	PerIter    onOff  `name:"per_iter_timing" short:"I" default:"0" help:"1: add statistics over iterations."`
	Skip       int    `name:"per_iter_skip" short:"K" default:"0" help:"First iterations that these leave out."`

	deviceFlags `embed:"" group:"CUDA (accepted at their defaults):"`

	NP         *int     `name:"np" placeholder:"2" help:"Processes to start when no launcher did, 2 or enough for as many ranks as -g (also -np)." group:"hfreduce:"`
	Nodes      *int     `name:"nodes" placeholder:"1" help:"Virtual nodes to divide them into, which talk over the network." group:"hfreduce:"`
	Bind       string   `name:"bind" default:"core" enum:"core,numa,none" help:"Bind ranks: core, each to its share of the processors; numa, to a NUMA node; none. A binding by somebody else stays." group:"hfreduce:"`
	Phase      bool     `name:"phase" help:"Add a table of where the time goes: copies from the GPU, reduction, network, copies to the GPU, and the call itself. Needs -g." group:"hfreduce:"`
	Registered bool     `name:"registered" help:"Use buffers from Comm.Alloc, which are read in place." group:"hfreduce:"`
	Fault      string   `name:"fault" placeholder:"RULES" help:"Inject faults, such as 'corrupt rank=0 p=0.01; kill rank=1 call=5'; docs/testing.md lists them (also HFREDUCE_FAULT)." group:"hfreduce:"`
	Metrics    string   `name:"metrics" placeholder:"ADDR" help:"Serve Prometheus metrics of rank 0 at http://ADDR/metrics while it runs; ADDR is host:port." group:"hfreduce:"`
	MinBW      *float64 `name:"min-bw" placeholder:"GB/s" help:"Fail if the average bus bandwidth is below 90% of it (also NCCL_TESTS_MIN_BW, HFREDUCE_MIN_BW)." group:"hfreduce:"`
}

// deviceFlags are about NCCL's kernels and buffers.
type deviceFlags struct {
	StreamNull    int `name:"stream_null" short:"y" default:"0" help:"0."`
	CUDAGraph     int `name:"cudagraph" short:"G" default:"0" help:"0."`
	LocalRegister int `name:"local_register" short:"R" default:"0" help:"0; see --registered."`
	CTAPolicy     int `name:"cta_policy" short:"x" default:"0" help:"0."`
	DeviceImpl    int `name:"device_implementation" short:"D" default:"0" help:"0."`
	DeviceCTAs    int `name:"device_cta_count" short:"V" default:"16" help:"16."`
	Memory        int `name:"memory" short:"M" default:"0" help:"0."`
}

// check refuses what there is no counterpart of.
func (d deviceFlags) check() error {
	for _, f := range [...]struct {
		letter         string
		value, initial int
	}{
		{"y", d.StreamNull, 0}, {"G", d.CUDAGraph, 0}, {"R", d.LocalRegister, 0}, {"x", max(d.CTAPolicy, 0), 0},
		{"D", d.DeviceImpl, 0}, {"V", d.DeviceCTAs, 16}, {"M", d.Memory, 0},
	} {
		if f.value != f.initial {
			return fmt.Errorf("-%s %d is not supported: there are no CUDA kernels here as NCCL has; leave -%[1]s out", f.letter, f.value)
		}
	}
	return nil
}

// config returns what the flags and the environment ask for.
func (c *benchCommand) config(s *system) (bench.Config, error) {
	cfg := bench.Config{
		Types: c.Type.list, Ops: c.Op.list, Root: int(c.Root),
		MinBytes: int64(c.MinBytes), MaxBytes: int64(c.MaxBytes), StepBytes: int64(c.StepBytes), StepFactor: c.StepFactor,
		Iters: c.Iters, Warmup: c.Warmup, Aggregate: c.Aggregate, Cycles: c.Cycles, Check: c.Check, Unalign: c.Unalign,
		Blocking: bench.Blocking(c.Blocking), Average: bench.Average(c.Average), Timeout: time.Duration(c.Timeout) * time.Second,
		PerIter: bool(c.PerIter), PerIterSkip: c.Skip, CPUTime: bool(c.CPUTime), Timestamps: bool(c.Timestamps),
		Threads: c.Threads, GPUs: c.GPUs, Phases: c.Phase, DeviceChunkBytes: deviceChunkBytes(s), ParallelInit: bool(c.Parallel), Registered: c.Registered, Args: s.args, Env: s.env,
	}
	var errs [6]error
	if cfg.Collectives, errs[0] = parseCollectives(c.Collective); errs[0] != nil {
		cfg.Collectives = []bench.Collective{bench.AllReduce} // that there is none has been said
	}
	cfg.MinBandwidth, errs[1] = c.minBandwidth(s)
	cfg.Split, errs[2] = bench.ParseSplit(s.getenv("NCCL_TESTS_SPLIT_MASK"), s.getenv("NCCL_TESTS_SPLIT"))
	errs[3] = c.check()
	errs[4] = checkDocumentName(c.Output)
	errs[5] = cfg.Validate()
	return cfg, errors.Join(errs[:]...)
}

// deviceChunkBytes returns what the library will read from the environment, 0 for its default. It is the library that
// complains of what is no number.
func deviceChunkBytes(s *system) int64 {
	n, err := strconv.ParseInt(s.getenv("HFREDUCE_DEVICE_CHUNK_BYTES"), 10, 64)
	if err != nil {
		return 0
	}
	return max(0, n)
}

// cuda returns the value of Options.CUDA.
func (c *benchCommand) cuda() string {
	if c.GPUs > 0 {
		return hfreduce.CUDAOn
	}
	return hfreduce.CUDAOff
}

// parseCollectives reads the names of tests; none means allreduce.
func parseCollectives(names []string) (all []bench.Collective, err error) {
	if len(names) == 0 {
		return []bench.Collective{bench.AllReduce}, nil
	}
	for _, name := range names {
		list, err := bench.ParseCollectives(name)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// minBandwidth returns what the flag or the environment asks for, -1 for nothing.
func (c *benchCommand) minBandwidth(s *system) (float64, error) {
	if c.MinBW != nil {
		if !(*c.MinBW >= 0) {
			return 0, fmt.Errorf("--min-bw %v is not a bandwidth; give GB/s such as 12.5", *c.MinBW)
		}
		return *c.MinBW, nil
	}
	for _, name := range [...]string{"HFREDUCE_MIN_BW", "NCCL_TESTS_MIN_BW"} {
		text := strings.TrimSpace(s.getenv(name))
		if text == "" {
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || !(v >= 0) {
			return 0, fmt.Errorf("%s=%q is not a bandwidth; give GB/s such as 12.5", name, text)
		}
		return v, nil
	}
	return -1, nil
}
