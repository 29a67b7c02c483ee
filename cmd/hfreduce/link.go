// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/linkbench"
)

// linkCommand measures the links between nodes.
type linkCommand struct {
	Mode       string `arg:"" optional:"" default:"bandwidth" enum:"bandwidth,both,latency" help:"bandwidth, one way (default); both, both ways at once; latency."`
	MinBytes   *size  `name:"minbytes" short:"b" placeholder:"64K" help:"First size of a message, with K, M or G for 2^10, 2^20, 2^30; 8 for latency."`
	MaxBytes   *size  `name:"maxbytes" short:"e" placeholder:"4M" help:"Last size; 8 for latency."`
	StepFactor int64  `name:"stepfactor" short:"f" default:"4" help:"Factor from size to size."`
	Iters      int    `name:"iters" short:"n" default:"1000" help:"Timed messages of each size and direction."`
	Warmup     int    `name:"warmup_iters" short:"w" default:"100" help:"Messages before that."`
	Window     int    `name:"window" default:"8" help:"Messages in flight, for bandwidth."`
	Check      onOff  `name:"check" short:"c" default:"1" help:"1: verify the bytes of some messages afterwards."`
	Pairs      string `name:"pairs" default:"ring" enum:"ring,all" help:"ring, each node and the next; all, every node with every other."`
	Transport  string `name:"transport" enum:"auto,tcp,verbs," default:"" placeholder:"auto" help:"auto, tcp or verbs (also HFREDUCE_TRANSPORT)."`
	NP         *int   `name:"np" placeholder:"2" help:"Processes to start when no launcher did (also -np)."`
	Nodes      *int   `name:"nodes" placeholder:"NP" help:"Virtual nodes to divide them into, one for each process by default."`
	Bind       string `name:"bind" default:"core" enum:"core,numa,none" help:"Bind ranks, as bench does."`
	Output     string `name:"output_file" short:"J" placeholder:"FILE.json" help:"Write a JSON document."`
}

// Help is what kong adds to the list of flags.
func (c *linkCommand) Help() string {
	return "Pairs of nodes are measured one after the other, over the transport that carries the collectives' data, as ib_write_bw and " +
		"ib_write_lat do with adapters. The first rank of each node takes part: ranks on one node share memory."
}

// config returns what the flags ask for.
func (c *linkCommand) config(s *system) (linkbench.Config, error) {
	mode, modeErr := linkbench.ParseMode(c.Mode)
	cfg := linkbench.DefaultConfig(mode)
	var pairsErr error
	cfg.Pairs, pairsErr = linkbench.ParsePairs(c.Pairs)
	switch lo, hi := c.MinBytes, c.MaxBytes; {
	case lo != nil && hi != nil:
		cfg.MinBytes, cfg.MaxBytes = int64(*lo), int64(*hi)
	case lo != nil:
		cfg.MinBytes = int64(*lo)
		cfg.MaxBytes = max(cfg.MinBytes, cfg.MaxBytes)
	case hi != nil:
		cfg.MaxBytes = int64(*hi)
		cfg.MinBytes = min(cfg.MinBytes, cfg.MaxBytes)
	}
	cfg.StepFactor, cfg.Iters, cfg.Warmup, cfg.Window, cfg.Check = c.StepFactor, c.Iters, c.Warmup, c.Window, bool(c.Check)
	cfg.Args = s.args
	return cfg, errors.Join(modeErr, pairsErr, cfg.Validate(), checkDocumentName(c.Output))
}

// Run joins the job of a launcher or, if there is none, becomes one, as bench does.
func (c *linkCommand) Run(s *system) error {
	cfg, err := c.config(s)
	if err != nil {
		return usage("bench link: %w", err)
	}
	job := selfJob{name: "bench link", np: c.NP, nodes: c.Nodes, bind: c.Bind, spread: true}
	id, launched, err := job.identify(s)
	switch {
	case err != nil:
		return err
	case !launched:
		return job.launch(s)
	}
	return c.join(s, cfg, id)
}

// join runs this process's rank.
func (c *linkCommand) join(s *system, cfg linkbench.Config, id identity) (err error) {
	ctx := context.Background() // signals end the process; the other ranks see that at once
	out := linkbench.Output{Table: s.stdout}
	if id.process == 0 {
		if c.Output != "" {
			file, err := createDocument(c.Output)
			if err != nil {
				return &exit{codeBroken, fmt.Errorf("bench link: -J: %w", err)}
			}
			defer func() { err = errors.Join(err, file.Close()) }()
			out.Document, out.DocumentName = file, file.Name()
		}
		progress := newProgress(s.stderr)
		defer progress.Hide()
		out.Progress = progress
	}
	comms, err := initRanks(ctx, 1, id, hfreduce.Options{Transport: c.Transport})
	if err != nil {
		return classify(err)
	}
	if err := bindRanks(c.Bind, comms); err != nil {
		return &exit{codeBroken, fmt.Errorf("bench link: --bind %s: %w", c.Bind, err)}
	}
	summary, err := linkbench.Run(ctx, cfg, comms[0], out)
	if err = errors.Join(err, closeAll(ctx, comms, err == nil)); err != nil {
		return classify(err)
	}
	if summary.Wrong > 0 {
		return &exit{code: codeFailed}
	}
	return nil
}
