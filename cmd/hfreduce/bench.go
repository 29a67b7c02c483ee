// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/bench"
	"github.com/hfreduce/hfreduce/cmd/hfreduce/internal/launch"
	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/internal/cpus"
)

// Run joins the job of a launcher or, if there is none, becomes one and starts itself as ranks.
func (c *benchCommand) Run(s *system) error {
	cfg, err := c.config(s)
	if err != nil {
		return usage("bench: %w", err)
	}
	id, launched, err := identify(s.getenv)
	switch {
	case err != nil:
		return usage("bench: %w", err)
	case !launched:
		return c.launch(s, cfg)
	case (c.NP != nil || c.Nodes != nil) && s.getenv(ownLauncher) == "":
		return usage("bench: -np and --nodes start ranks, but %s say that this is process %d of %d already; leave them out, or unset %[1]s", id.source, id.process, id.processes)
	}
	return c.join(s, cfg, id)
}

// defaultNP is the number of processes to start.
const defaultNP = 2

// ownLauncher is set for ranks that the benchmark itself has started, whose -np has been obeyed.
const ownLauncher = "HFREDUCE_BENCH_LAUNCHED"

// launch starts this program again as the ranks of a job.
func (c *benchCommand) launch(s *system, cfg bench.Config) error {
	np, nodes := defaultNP, 1
	if c.NP != nil {
		np = *c.NP
	}
	if c.Nodes != nil {
		nodes = *c.Nodes
	}
	if ranks := np * cfg.RanksPerProcess(); cfg.Root >= ranks && np > 0 {
		return usage("bench: -r %d is not a rank; there are %d, use 0 to %d, or all", cfg.Root, ranks, ranks-1)
	}
	self, err := os.Executable()
	if err != nil {
		return &exit{codeBroken, fmt.Errorf("bench: find this program to start it again: %w", err)}
	}
	return runJob(launch.Options{
		Ranks: np, Nodes: nodes, Command: append([]string{self}, rewrite(s.args)...), Env: append(slices.Clip(s.env), ownLauncher+"=1"),
		Bind: cpus.Binding(c.Bind), Output: launch.Direct, Stdout: s.stdout, Stderr: s.stderr, Grace: launchGrace,
		Explained: func(code int) bool { return code <= codeLost },
	})
}

// launchGrace is how long ranks have to end after one has failed.
const launchGrace = 5 * time.Second

// join runs this process's ranks.
func (c *benchCommand) join(s *system, cfg bench.Config, id identity) (err error) {
	ctx := context.Background() // signals end the process; the other ranks see that at once
	out := bench.Output{Table: s.stdout, Diagnostics: s.stderr}
	if id.process == 0 {
		if c.Output != "" {
			file, err := createDocument(c.Output)
			if err != nil {
				return &exit{codeBroken, fmt.Errorf("bench: -J: %w", err)}
			}
			defer func() { err = errors.Join(err, file.Close()) }()
			out.Document, out.DocumentName = file, file.Name()
		}
		progress := newProgress(s.stderr)
		defer progress.Hide()
		out.Progress = progress
	}
	comms, err := initRanks(ctx, cfg.RanksPerProcess(), id)
	if err != nil {
		return classify(err)
	}
	if err := c.bind(comms); err != nil {
		return &exit{codeBroken, fmt.Errorf("bench: --bind %s: %w", c.Bind, err)}
	}
	if c.Metrics != "" && id.process == 0 {
		at, stop, err := serveMetrics(c.Metrics, comms[0])
		if err != nil {
			return &exit{codeBroken, fmt.Errorf("bench: %w", err)}
		}
		defer func() { _ = stop() }()
		fmt.Fprintf(s.stderr, "%s bench: metrics at http://%s/metrics\n", programName, at)
	}
	summary, err := bench.Run(ctx, cfg, comms, out)
	if err = errors.Join(err, closeAll(ctx, comms, err == nil)); err != nil {
		return classify(err)
	}
	if summary.Failed() {
		return &exit{code: codeFailed}
	}
	return nil
}

// bind binds this process, unless somebody has done so already, to its part of the machine: its place among the ranks that
// share the processors, which virtual nodes and containers do. A process of several ranks stays free.
func (c *benchCommand) bind(comms []*hfreduce.Comm) error {
	binding := cpus.Binding(c.Bind)
	allowed, err := cpus.Allowed()
	if err != nil || binding == cpus.None || len(comms) > 1 {
		return err
	}
	online, err := cpus.Online()
	if err != nil || allowed != online {
		return nil // bound, or in a container that does not show the machine
	}
	nodes, err := cpus.NUMA(os.DirFS("/sys"), allowed)
	if err != nil {
		return err
	}
	index, sharers := onMachine(comms[0].Ranks(), comms[0].Rank())
	return cpus.Bind(binding.Place(allowed, nodes, index, sharers))
}

// onMachine returns the number of a rank among those of its machine, and how many they are.
func onMachine(ranks []hfreduce.RankInfo, rank int) (index, count int) {
	for _, r := range ranks {
		if r.Machine != ranks[rank].Machine {
			continue
		}
		if r.Rank == rank {
			index = count
		}
		count++
	}
	return index, count
}

// classify gives an error of the job its exit code.
func classify(err error) error {
	switch {
	case errors.Is(err, hfreduce.ErrInvalid):
		return &exit{codeUsage, err}
	case errors.Is(err, hfreduce.ErrPeerLost), errors.Is(err, hfreduce.ErrTimeout), errors.Is(err, hfreduce.ErrAborted),
		errors.Is(err, context.DeadlineExceeded):
		return &exit{codeLost, err}
	}
	return &exit{codeBroken, err}
}

// initRanks makes n ranks of this process meet all others.
func initRanks(ctx context.Context, n int, id identity) ([]*hfreduce.Comm, error) {
	comms, errs := make([]*hfreduce.Comm, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range comms {
		o := hfreduce.Options{} // everything from the launcher
		if n > 1 {
			o = hfreduce.Options{Rank: id.process*n + i, WorldSize: id.processes * n, Rendezvous: id.rendezvous}
		}
		wg.Go(func() { comms[i], errs[i] = hfreduce.Init(ctx, o) })
	}
	wg.Wait()
	return comms, errors.Join(errs...)
}

// closeAll closes the ranks, which waits for those of other processes; so nobody ends before rank 0 has written all. After
// an error there is nothing to wait for.
func closeAll(ctx context.Context, comms []*hfreduce.Comm, well bool) error {
	errs := make([]error, len(comms))
	var wg sync.WaitGroup
	for i, comm := range comms {
		wg.Go(func() { errs[i] = comm.Close(ctx) })
	}
	wg.Wait()
	if !well {
		return nil
	}
	return errors.Join(errs...)
}
