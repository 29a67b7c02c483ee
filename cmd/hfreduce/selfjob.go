// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/hfreduce/hfreduce/cmd/hfreduce/internal/launch"
	"github.com/hfreduce/hfreduce/internal/cpus"
)

// selfJob is a command that starts this program again as the ranks of a job, unless a launcher has done so.
type selfJob struct {
	name      string
	np, nodes *int // nil: not given
	least     int  // processes to start if np is not given, unless the default is more
	bind      string
	spread    bool // a node for each process if nodes is not given, else one for all
	faulty    bool // processes may be killed or stopped by faults that they were given; the others go on
}

// defaultNP is the number of processes to start.
const defaultNP = 2

// ownLauncher is set for ranks that the benchmark itself has started, whose -np has been obeyed.
const ownLauncher = "HFREDUCE_BENCH_LAUNCHED"

// killed is the exit code of a process that SIGKILL has ended, as launch and shells have it.
const killed = 128 + 9

// faultyLag is how long the ranks of a faulty job have to end after the first one: one that was stopped never does.
const faultyLag = 20 * time.Second

// launchGrace is how long ranks have to end after one has failed.
const launchGrace = 5 * time.Second

// identify returns this process's place in the job, and whether there is one already.
func (j *selfJob) identify(s *system) (id identity, launched bool, err error) {
	id, launched, err = identify(s.getenv)
	switch {
	case err != nil:
		return id, launched, usage("%s: %w", j.name, err)
	case launched && (j.np != nil || j.nodes != nil) && s.getenv(ownLauncher) == "":
		return id, launched, usage("%s: -np and --nodes start ranks, but %s say that this is process %d of %d already; leave them out, or unset %[2]s",
			j.name, id.source, id.process, id.processes)
	}
	return id, launched, nil
}

// processes returns how many to start.
func (j *selfJob) processes() int {
	if j.np != nil {
		return *j.np
	}
	return max(defaultNP, j.least)
}

// launch starts the job and waits for it.
func (j *selfJob) launch(s *system) error {
	nodes := 1
	switch {
	case j.nodes != nil:
		nodes = *j.nodes
	case j.spread:
		nodes = j.processes()
	}
	self, err := os.Executable()
	if err != nil {
		return &exit{codeBroken, fmt.Errorf("%s: find this program to start it again: %w", j.name, err)}
	}
	o := launch.Options{
		Ranks: j.processes(), Nodes: nodes, Command: append([]string{self}, rewrite(s.args)...), Env: append(slices.Clip(s.env), ownLauncher+"=1"),
		Bind: cpus.Binding(j.bind), Output: launch.Direct, Stdout: s.stdout, Stderr: s.stderr, Grace: launchGrace,
		Explained: func(code int) bool { return code <= codeLost },
	}
	if j.faulty {
		o.Dispensable, o.Lag = func(code int) bool { return code == killed }, faultyLag
	}
	return runJob(o)
}
