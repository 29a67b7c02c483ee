// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hfreduce/hfreduce/bench"
	"github.com/hfreduce/hfreduce/hfreduce"
)

// soakCommand runs random collectives for a long time.
type soakCommand struct {
	Duration time.Duration  `name:"duration" default:"60s" help:"How long."`
	Seed     *uint64        `name:"seed" placeholder:"N" help:"Of all that is random; chosen by chance and printed first. The ranks of another launcher must be given one."`
	MaxBytes size           `name:"maxbytes" short:"e" default:"4M" help:"Largest buffer, with K, M or G for 2^10, 2^20, 2^30."`
	Threads  int            `name:"nthreads" short:"t" default:"1" help:"Ranks of each process."`
	Fault    string         `name:"fault" placeholder:"RULES" help:"Inject faults, such as 'kill rank=1 call=500'; docs/testing.md lists them (also HFREDUCE_FAULT). Communicators may break then."`
	Timeout  *time.Duration `name:"timeout" placeholder:"30s" help:"Break a communicator when a collective has made no progress for so long; 5s with faults."`
	NP       *int           `name:"np" placeholder:"2" help:"Processes to start when no launcher did (also -np)."`
	Nodes    *int           `name:"nodes" placeholder:"1" help:"Virtual nodes to divide them into, which talk over the network."`
	Bind     string         `name:"bind" default:"core" enum:"core,numa,none" help:"Bind ranks, as bench does."`
}

// Help is what kong adds to the list of flags.
func (c *soakCommand) Help() string {
	return "All ranks make the same calls of any collective, type, operator, size and root, blocking and with several in flight, in place and not, " +
		"in memory of Alloc and of the heap, on the communicator of all and on those of groups, and verify every result. With faults every " +
		"rank must get an error in time, and those that are left go on. The exit code is 1 if a result is wrong, or an error is wrong or missing."
}

// The defaults of --timeout, without faults and with, and how much longer a call may take until it ends with an error.
const (
	soakTimeout      = 30 * time.Second
	soakFaultTimeout = 5 * time.Second
	soakGrace        = 10 * time.Second
)

// config returns what the flags and the environment ask for, and the options of the ranks.
func (c *soakCommand) config(s *system) (bench.SoakConfig, hfreduce.Options, error) {
	o := hfreduce.Options{CUDA: hfreduce.CUDAOff, Fault: c.Fault, Timeout: soakTimeout}
	cfg := bench.SoakConfig{Duration: c.Duration, MaxBytes: int64(c.MaxBytes), Threads: c.Threads, Faults: c.Fault != "" || s.getenv("HFREDUCE_FAULT") != ""}
	if cfg.Faults {
		o.Timeout = soakFaultTimeout
	}
	if c.Timeout != nil {
		o.Timeout = *c.Timeout
	}
	if c.Seed != nil {
		cfg.Seed = *c.Seed
	}
	cfg.Bound = o.Timeout + soakGrace
	err := cfg.Validate()
	if o.Timeout <= 0 {
		err = errors.Join(err, fmt.Errorf("--timeout %v is not positive; give a time such as 30s", o.Timeout))
	}
	return cfg, o, err
}

// Run joins the job of a launcher or, if there is none, becomes one, as bench does.
func (c *soakCommand) Run(s *system) error {
	cfg, o, err := c.config(s)
	if err != nil {
		return usage("bench soak: %w", err)
	}
	job := selfJob{name: "bench soak", np: c.NP, nodes: c.Nodes, bind: c.Bind, faulty: cfg.Faults}
	id, launched, err := job.identify(s)
	switch {
	case err != nil:
		return err
	case launched && c.Seed == nil:
		return usage("bench soak: all ranks need the same --seed; give one")
	case launched:
		return c.join(s, cfg, o, id)
	case c.Seed == nil:
		s.args = append(s.args[:len(s.args):len(s.args)], fmt.Sprintf("--seed=%d", rand.Uint32()))
	}
	return job.launch(s)
}

// join runs this process's ranks.
func (c *soakCommand) join(s *system, cfg bench.SoakConfig, o hfreduce.Options, id identity) error {
	ctx := context.Background() // signals end the process; the other ranks see that at once
	out := bench.Output{Table: s.stdout, Diagnostics: s.stderr}
	if id.process == 0 {
		progress := newProgress(s.stderr)
		defer progress.Hide()
		out.Progress = progress
	}
	comms, err := initRanks(ctx, cfg.Threads, id, o)
	if err != nil {
		return classify(err)
	}
	if err := bindRanks(c.Bind, comms); err != nil {
		return &exit{codeBroken, fmt.Errorf("bench soak: --bind %s: %w", c.Bind, err)}
	}
	summary, err := bench.Soak(ctx, cfg, comms, out)
	if err != nil {
		if cfg.Faults || summary.Wrong > 0 {
			return &exit{codeFailed, err}
		}
		return classify(err)
	}
	if summary.Failed() {
		return &exit{code: codeFailed}
	}
	return nil
}
