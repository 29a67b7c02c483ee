// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/fault"
)

// This file does what Options.Fault asks for: links have faults (package transport/fault), and a rank's process is killed,
// stopped or held up where the engine says that a stage of a collective begins.

// faults returns the plan of Options.Fault.
func (o *Options) faults() (*fault.Plan, error) {
	plan, err := fault.Parse(o.Fault)
	if err == nil && o.WorldSize > 0 {
		err = plan.Check(o.WorldSize)
	}
	if err != nil {
		return nil, fmt.Errorf("option Fault: %w", err)
	}
	return plan, nil
}

// injectFaults returns the transport of a rank with the faults of a plan.
func (o *Options) injectFaults(plan *fault.Plan, rank int, inner transport.Transport) transport.Transport {
	if plan.String() == "" {
		return inner
	}
	o.Logger.Warn("faults are injected", "rank", rank, "plan", plan.String())
	return fault.New(inner, fault.Config{Plan: plan, Rank: rank, Hit: func(h fault.Hit) {
		o.Logger.Info("fault", "rule", h.Rule, "from", h.From, "to", h.To, "landing", h.Landing, "seq", h.Seq, "message", h.Message)
	}})
}

// probe returns what the engine calls when a stage begins, nil unless the options have faults for this rank's process.
func (c *Comm) probe(world bool) (func(engine.Stage), error) {
	if c.opts.Fault == "" {
		return nil, nil
	}
	plan, err := fault.Parse(c.opts.Fault) // not of this Comm's size
	if err != nil {
		return nil, err
	}
	process := plan.Process(c.members[c.rank], world)
	if process == nil {
		return nil, nil
	}
	return func(s engine.Stage) { process.At(c.stats.started.Load(), s.String(), c.suffer) }, nil
}

// suffer does what a rule asks of this rank's process.
func (c *Comm) suffer(a fault.Act) {
	level := slog.LevelWarn
	if a.Action == fault.Pause {
		level = slog.LevelInfo // there may be many
	}
	c.log.Log(context.Background(), level, "fault", "rule", a.Rule, "rank", c.rank, "call", a.Call)
	switch a.Action {
	case fault.Kill:
		if err := unix.Kill(unix.Getpid(), unix.SIGKILL); err == nil {
			select {} // not a step further
		}
	case fault.Stop:
		runtime.LockOSThread() // a signal to this thread stops the process before the next step, one to the process soon
		_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
		runtime.UnlockOSThread()
	case fault.Abort:
		c.Abort(fmt.Errorf("an injected fault, %q", a.Rule))
	case fault.Pause:
		timer := time.NewTimer(a.Hold)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.life.Done():
		}
	}
}
