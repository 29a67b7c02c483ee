// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// Output is where a run writes. Every writer may be nil.
type Output struct {
	Table        io.Writer // the report
	Document     io.Writer // the JSON document
	DocumentName string    // how the table calls it
	Progress     Progress
}

// Progress shows how far a run is. Its methods are called by one goroutine.
type Progress interface {
	// Step is called before each of total samples, done of which are over.
	Step(done, total int, what string)
	// Hide is called before lines of the table are written.
	Hide()
}

func (o *Output) defaults() {
	if o.Table == nil {
		o.Table = io.Discard
	}
	if o.Progress == nil {
		o.Progress = noProgress{}
	}
}

type noProgress struct{}

func (noProgress) Step(int, int, string) {}
func (noProgress) Hide()                 {}

// Summary is what a run found.
type Summary struct {
	// Measured counts the cases with a figure.
	Measured int
	// Wrong counts the cases whose result is not that of the portable kernels.
	Wrong int
}

// Run measures what cfg asks for and writes the report. An error means that it could not be run to the end; one that is
// hfreduce.ErrInvalid, that it could not begin. It turns the garbage collector off while it measures.
func Run(ctx context.Context, cfg Config, out Output) (summary Summary, err error) {
	if err := cfg.Validate(); err != nil {
		return Summary{}, fmt.Errorf("kernelbench: %w: %w", hfreduce.ErrInvalid, err)
	}
	cfg.hooks.defaults()
	out.defaults()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	err = onCPU(cfg.CPU, func(cpu int) error {
		r, err := newRunner(&cfg, out, cpu)
		if err != nil {
			return err
		}
		err = errors.Join(r.runAll(ctx), r.arena.free())
		summary = r.summary
		return r.report.finish(err)
	})
	if err != nil {
		return summary, fmt.Errorf("kernelbench: %w", err)
	}
	return summary, nil
}

// runner takes a configuration through all its groups.
type runner struct {
	cfg     *Config
	groups  []group
	regions map[int64]region // by working set
	arena   *arena
	machine machine
	watch   stopwatch
	copies  []yardstick
	report  *report
	pace    pace
	summary Summary
}

func newRunner(cfg *Config, out Output, cpu int) (*runner, error) {
	r := &runner{cfg: cfg, groups: plan(cfg), regions: map[int64]region{}, watch: stopwatch{cfg.hooks.clock}, copies: yardsticks()}
	largest := int64(0)
	for _, size := range cfg.Sizes {
		r.regions[size] = regionOf(r.groups, size)
		largest = max(largest, r.regions[size].bytes)
	}
	var err error
	if r.arena, err = newArena(largest); err != nil {
		return nil, err
	}
	r.machine = describeMachine(cpu, int64(len(r.arena.bytes)))
	r.report = newReport(cfg, out, r.machine, r.copies)
	r.pace = newPace(r.groups, cfg.Rounds)
	return r, nil
}

// runAll measures all groups, and tells the limits of each working set behind the last one of it.
func (r *runner) runAll(ctx context.Context) error {
	r.report.begin(r.groups)
	limits := make([][]float64, len(r.copies))
	for i, g := range r.groups {
		found, err := r.runGroup(ctx, g)
		if err != nil {
			return err
		}
		for j := range found {
			limits[j] = append(limits[j], found[j]...)
		}
		if i+1 == len(r.groups) || r.groups[i+1].size != g.size {
			r.report.limits(g.size, limits)
			limits = make([][]float64, len(r.copies))
		}
	}
	return nil
}

// runGroup measures a group and returns the samples of each yardstick.
func (r *runner) runGroup(ctx context.Context, g group) (limits [][]float64, err error) {
	at := r.regions[g.size].outputsAt
	g.data.into(r.arena.bytes[:at], r.cfg.Seed)
	copies, warm := r.copyTasks(g.size, at), r.machine.keeps(g.size)
	rows, tasks := make([]row, len(g.cases)), []*task(nil)
	measured, verifier := []int(nil), newVerifier() // the rows that tasks belong to
	for i, s := range g.cases {
		c := newCall(s, r.arena, at, &r.cfg.hooks)
		rows[i] = row{subject: s, shape: s.shape()}
		if rows[i].err = verifier.verify(c); rows[i].err != nil {
			continue
		}
		t := &task{run: c.run, bytes: s.shape().traffic(), warm: warm}
		r.watch.calibrate(t)
		tasks, measured = append(tasks, t), append(measured, i)
	}
	cases := len(tasks)
	tasks = append(tasks, copies[1:]...)
	measure := func(i int) (float64, error) {
		r.progress(g, measured, i)
		return r.watch.sample(tasks[i]), ctx.Err()
	}
	samples, limit, err := interleave(orders(r.cfg.Rounds, len(tasks), r.cfg.Seed), len(tasks), measure,
		func() float64 { return r.watch.sample(copies[0]) })
	if err != nil {
		return nil, err
	}
	for i, at := range measured {
		rows[at].figures = samples[i]
	}
	r.finish(rows)
	limits = append(limits, limit)
	for _, f := range samples[cases:] {
		limits = append(limits, f.rates)
	}
	return limits, r.report.err
}

// copyTasks returns the yardsticks as tasks, ready to be sampled.
func (r *runner) copyTasks(size, outputsAt int64) []*task {
	from, to := halves(size, outputsAt)
	source, target := r.arena.at(from), r.arena.at(to)
	var tasks []*task
	for _, y := range r.copies {
		t := &task{run: func(times int) { y.copy(target, source, times) }, bytes: 2 * from.bytes, warm: r.machine.keeps(size)}
		r.watch.calibrate(t)
		tasks = append(tasks, t)
	}
	return tasks
}

// finish reports the rows of a group.
func (r *runner) finish(rows []row) {
	for i := range rows {
		if rows[i].err != nil {
			r.summary.Wrong++
		} else {
			r.summary.Measured++
		}
		r.report.row(&rows[i])
	}
}

// progress tells what comes next: a task, which beyond the cases is a copy.
func (r *runner) progress(g group, measured []int, task int) {
	if task >= len(measured) {
		return
	}
	s := g.cases[measured[task]]
	r.report.step(r.pace.done, r.pace.total, s.String()+r.pace.left(r.cfg.hooks.clock()))
	r.pace.advance(s)
}
