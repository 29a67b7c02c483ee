// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/hfreduce/hfreduce/bench"
	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/internal/cpus"
)

// Help is what kong adds to the list of flags.
func (c *benchCommand) Help() string {
	return "The subcommands bench link, tune, soak and reduce measure other things; each has --help."
}

// Run joins the job of a launcher or, if there is none, becomes one and starts itself as ranks.
func (c *benchCommand) Run(s *system) error {
	cfg, err := c.config(s)
	if err != nil {
		return usage("bench: %w", err)
	}
	if err := c.prepareCUDA(s, &cfg); err != nil {
		return classify(err)
	}
	perProcess := cfg.RanksPerProcess()
	job := selfJob{name: "bench", np: c.NP, nodes: c.Nodes, bind: c.Bind, least: (c.GPUs + perProcess - 1) / perProcess}
	id, launched, err := job.identify(s)
	switch {
	case err != nil:
		return err
	case launched:
		return c.join(s, cfg, id)
	}
	if np := job.processes(); np > 0 && cfg.Root >= np*cfg.RanksPerProcess() {
		ranks := np * cfg.RanksPerProcess()
		return usage("bench: -r %d is not a rank; there are %d, use 0 to %d, or all", cfg.Root, ranks, ranks-1)
	}
	return job.launch(s)
}

// prepareCUDA reports what is missing for buffers in GPU memory, before ranks are started that would all say so.
func (c *benchCommand) prepareCUDA(s *system, cfg *bench.Config) error {
	const connections = "CUDA_DEVICE_MAX_CONNECTIONS"
	if cfg.GPUs > 0 && cfg.Threads > 1 && s.getenv(connections) == "" {
		// The ranks of a process share its queues to the GPU. With fewer queues than streams, what one rank's stream waits for
		// may stand behind it in the same queue. 32 is the most that CUDA takes; it reads the variable when it is loaded.
		if err := os.Setenv(connections, "32"); err != nil {
			return err
		}
	}
	return cfg.CheckGPUs()
}

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
	comms, err := initRanks(ctx, cfg.RanksPerProcess(), id, hfreduce.Options{CUDA: c.cuda(), Fault: c.Fault})
	if err != nil {
		return classify(err)
	}
	if err := bindRanks(c.Bind, comms); err != nil {
		return &exit{codeBroken, fmt.Errorf("bench: --bind %s: %w", c.Bind, err)}
	}
	if text := cfg.SharedGPUs(comms[0].LocalSize()); text != "" && id.process == 0 && s.getenv(ownLauncher) == "" {
		fmt.Fprintf(s.stderr, "%s bench: %s\n", programName, text)
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

// bindRanks binds this process, unless somebody has done so already, to its part of the machine: its place among the ranks that
// share the processors, which virtual nodes and containers do. A process of several ranks stays free.
func bindRanks(how string, comms []*hfreduce.Comm) error {
	binding := cpus.Binding(how)
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
	case errors.Is(err, hfreduce.ErrCorrupt): // as where nobody looks for it but the benchmark
		return &exit{codeFailed, err}
	case errors.Is(err, hfreduce.ErrPeerLost), errors.Is(err, hfreduce.ErrTimeout), errors.Is(err, hfreduce.ErrAborted),
		errors.Is(err, context.DeadlineExceeded):
		return &exit{codeLost, err}
	}
	return &exit{codeBroken, err}
}

// initRanks makes n ranks of this process meet all others. What options leave open is from the launcher.
func initRanks(ctx context.Context, n int, id identity, options hfreduce.Options) ([]*hfreduce.Comm, error) {
	comms, errs := make([]*hfreduce.Comm, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range comms {
		o := options
		if n > 1 {
			o.Rank, o.WorldSize, o.Rendezvous = id.process*n+i, id.processes*n, id.rendezvous
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
