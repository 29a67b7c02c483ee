// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/kernelbench"
)

// reduceCommand measures the reduction kernels. It starts no ranks.
type reduceCommand struct {
	Types    []types       `name:"dtype" default:"all" help:"int8, uint8, int32, uint32, int64, uint64, half, float, double, bfloat16, f8e4m3, f8e5m2 or all; lists are separated by commas."`
	Ops      []kernelOps   `name:"op" default:"sum" help:"sum, prod, min, max, avg, mulsum or all."`
	Sources  []int         `name:"sources" default:"2,4,8" help:"Numbers of buffers that are reduced into one."`
	Sizes    []size        `name:"size" default:"256K,8M,256M" help:"Working sets: bytes of all buffers together, with K, M or G for 2^10, 2^20, 2^30."`
	Backends []backends    `name:"backend" default:"all" help:"generic, avx2, avx512 or all that this machine can run."`
	Stores   stores        `name:"stores" default:"auto" help:"plain, stream (non-temporal), both, or auto: both for the largest working set, plain for all others."`
	Variants []kernelParts `name:"out" default:"plain" help:"plain, wide (float32 of narrower floating-point types), second (two outputs) or all."`
	Rounds   int           `name:"rounds" default:"5" help:"Samples of each case."`
	Seed     uint64        `name:"seed" default:"1" help:"Of the data and the order of the cases."`
	Bind     processor     `name:"bind" default:"last" help:"Processor to run on: a number, last of those allowed, or none."`
	Output   string        `name:"output" short:"J" placeholder:"FILE.json" help:"Write a JSON document."`
}

// Help is what kong adds to the list of flags.
func (c *reduceCommand) Help() string {
	return "Every combination is measured against copying memory, on one core of this process: see the package's documentation, " +
		"go doc github.com/hfreduce/hfreduce/hfreduce/kernelbench. The copy is glibc's memcpy if the program was built with " +
		"CGO_ENABLED=1, else Go's. The collective called reduce is measured by bench reduce_perf."
}

// Run measures.
func (c *reduceCommand) Run(s *system) (err error) {
	cfg := c.config(s)
	if err := errors.Join(cfg.Validate(), checkDocumentName(c.Output)); err != nil {
		return usage("bench reduce: %w", err)
	}
	out := kernelbench.Output{Table: s.stdout}
	if c.Output != "" {
		file, err := createDocument(c.Output)
		if err != nil {
			return &exit{codeBroken, fmt.Errorf("bench reduce: -J: %w", err)}
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		out.Document, out.DocumentName = file, file.Name()
	}
	progress := newProgress(s.stderr)
	defer progress.Hide()
	out.Progress = progress
	summary, err := kernelbench.Run(context.Background(), cfg, out) // signals end the process
	switch {
	case errors.Is(err, hfreduce.ErrInvalid):
		return usage("bench reduce: %w", err)
	case err != nil:
		return &exit{codeBroken, fmt.Errorf("bench reduce: %w", err)}
	case summary.Wrong > 0:
		return &exit{code: codeFailed}
	}
	return nil
}

// config returns what the flags ask for.
func (c *reduceCommand) config(s *system) kernelbench.Config {
	cfg := kernelbench.Config{
		Sources: c.Sources, Stores: c.Stores.choice, Rounds: c.Rounds, Seed: c.Seed, CPU: int(c.Bind), Args: s.args,
	}
	for _, t := range c.Types {
		cfg.Types = append(cfg.Types, t.list...)
	}
	for _, o := range c.Ops {
		cfg.Ops = append(cfg.Ops, o.list...)
	}
	for _, v := range c.Sizes {
		cfg.Sizes = append(cfg.Sizes, int64(v))
	}
	for _, b := range c.Backends {
		cfg.Backends = append(cfg.Backends, b.list...)
	}
	for _, v := range c.Variants {
		cfg.Variants = append(cfg.Variants, v.list...)
	}
	return cfg
}

// kernelOps is an operator, or all of them.
type kernelOps struct{ list []kernelbench.Op }

func (o *kernelOps) UnmarshalText(text []byte) (err error) {
	o.list, err = kernelbench.ParseOps(string(text))
	return err
}

// kernelParts is a kind of output, or all of them.
type kernelParts struct{ list []kernelbench.Variant }

func (v *kernelParts) UnmarshalText(text []byte) (err error) {
	v.list, err = kernelbench.ParseVariants(string(text))
	return err
}

// backends is a backend by name, or all of them.
type backends struct{ list []string }

func (b *backends) UnmarshalText(text []byte) (err error) {
	b.list, err = kernelbench.ParseBackends(string(text))
	return err
}

// stores is a choice of stores.
type stores struct{ choice kernelbench.Stores }

func (v *stores) UnmarshalText(text []byte) (err error) {
	v.choice, err = kernelbench.ParseStores(string(text))
	return err
}

// processor is the number of one, or one of kernelbench's choices.
type processor int

func (p *processor) UnmarshalText(text []byte) error {
	switch string(text) {
	case "last":
		*p = kernelbench.LastCPU
		return nil
	case "none":
		*p = kernelbench.AnyCPU
		return nil
	}
	v, err := strconv.Atoi(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a processor; give a number from 0 up, last or none", text)
	}
	*p = processor(v)
	return nil
}
