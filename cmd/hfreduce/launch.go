// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hfreduce/hfreduce/cmd/hfreduce/internal/launch"
	"github.com/hfreduce/hfreduce/internal/cpus"
)

// launchCommand starts any program as ranks.
type launchCommand struct {
	Ranks   int           `name:"np" short:"n" required:"" placeholder:"RANKS" help:"Number of ranks (also -np)."`
	Nodes   int           `default:"1" help:"Divide the ranks into this many virtual nodes, which talk over the network."`
	Bind    string        `default:"core" enum:"core,numa,none" help:"Bind each rank: core, to its share of the processors; numa, to a NUMA node; none."`
	Prefix  bool          `help:"Begin each line of output with the rank."`
	Grace   time.Duration `default:"10s" help:"Time from SIGTERM to SIGKILL when ranks have to end."`
	Program []string      `arg:"" passthrough:"" optional:"" help:"Program and arguments, after --."`
}

// Run starts the ranks and waits for them.
func (c *launchCommand) Run(s *system) error {
	program := s.args[len(s.args)-len(c.Program):] // as typed: rewrite is for our own flags, and keeps their number
	if len(program) > 0 && program[0] == "--" {
		program = program[1:]
	}
	o := launch.Options{
		Ranks: c.Ranks, Nodes: c.Nodes, Command: program, Env: s.env, Bind: cpus.Binding(c.Bind),
		Stdout: s.stdout, Stderr: s.stderr, Grace: c.Grace,
	}
	if c.Prefix {
		o.Output = launch.Prefixed
	}
	return runJob(o)
}

// runJob runs a job, passing signals on, and returns its exit code as an error.
func runJob(o launch.Options) error {
	if err := o.Validate(); err != nil {
		return usage("launch: %w", err)
	}
	signals, done := passSignals()
	defer done()
	o.Signals = signals
	code, err := launch.Run(o)
	if err != nil {
		return &exit{codeBroken, err}
	}
	if code != 0 {
		return &exit{code: code}
	}
	return nil
}

// passSignals returns the signals that a job should get, until done is called.
func passSignals() (signals <-chan launch.Signal, done func()) {
	caught, passed, ended := make(chan os.Signal, 4), make(chan launch.Signal), make(chan struct{})
	signal.Notify(caught, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for {
			select {
			case s := <-caught:
				select {
				case passed <- s.(launch.Signal):
				case <-ended:
					return
				}
			case <-ended:
				return
			}
		}
	}()
	return passed, func() {
		signal.Stop(caught)
		close(ended)
	}
}
