// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// rank is one rank on its way through all tests. All ranks go the same way at the same time.
type rank struct {
	cfg     *Config
	out     Output
	control control        // over all ranks
	comm    *hfreduce.Comm // of the group under test
	number  int            // in the group
	ranks   int            // in the group
	roots   []int          // of tests with a root
	max     int64          // MaxBytes, or what memory allows
	clock   func() time.Duration

	send, recv area
	gpu        *gpu     // nil without GPUs
	devices    []device // of all ranks
	report     *report  // on rank 0 of the world, else nil
	seed       int      // of the latest verification
	complaints int      // diagnostics written
	summary    Summary
	requests   []*hfreduce.Request // of calls in flight together

	// The pattern of the current test, by data type and operator.
	pattern *pattern
	inputs  period // of this rank
	results period
}

// test is one block of the report: a sweep over sizes.
type test struct {
	collective Collective
	dtype      hfreduce.DataType
	op         Op
	root       int // -1 for collectives without
}

// runRank runs all tests on one rank.
func runRank(ctx context.Context, cfg Config, world *hfreduce.Comm, out Output) (s Summary, err error) {
	r := &rank{cfg: &cfg, out: out, control: control{world}, comm: world, clock: cfg.hooks.clock(), devices: describeRanks(&cfg, world)}
	if world.Rank() == 0 {
		r.report = newReport(&cfg, out, r.devices)
	}
	defer func() {
		if r.report != nil {
			err = r.report.finish(r.summary, err)
		}
	}()
	defer func() {
		if err != nil {
			world.Abort(err) // a GPU gives nothing back while its streams wait for other ranks
		}
		if closeErr := r.tearDown(ctx, world); err == nil {
			err = closeErr
		}
	}()
	if err := r.setUp(ctx, world); err != nil {
		return r.summary, err
	}
	for _, c := range cfg.Collectives {
		if err := r.collective(ctx, c); err != nil {
			return r.summary, err
		}
	}
	return r.summary, nil
}

// setUp splits the world, agrees on sizes and takes the buffers.
func (r *rank) setUp(ctx context.Context, world *hfreduce.Comm) (err error) {
	if r.cfg.Split.active() {
		color := r.cfg.Split.Group(world.Rank() / r.cfg.RanksPerProcess())
		if r.comm, err = world.Split(ctx, color, world.Rank()); err != nil {
			return fmt.Errorf("bench: split into groups: %w", err)
		}
	}
	r.number, r.ranks = r.comm.Rank(), r.comm.WorldSize()
	smallest, err := r.control.reduce(ctx, float64(r.ranks), hfreduce.Min)
	if err != nil {
		return err
	}
	if err := r.cfg.validateRoot(int(smallest)); err != nil {
		return err
	}
	r.roots = rootsOf(r.cfg.Root, int(smallest))
	if err := r.takeGPU(ctx); err != nil {
		return err
	}
	if r.max, err = r.limit(ctx, availableMemory()); err != nil {
		return err
	}
	if r.send, err = r.newArea(); err != nil {
		return err
	}
	if r.recv, err = r.newArea(); err != nil || r.gpu == nil {
		return err
	}
	limits, err := r.measureCopies(ctx)
	if err == nil && r.report != nil {
		r.report.found(r.devices, limits)
	}
	return err
}

// tearDown gives back what setUp took.
func (r *rank) tearDown(ctx context.Context, world *hfreduce.Comm) error {
	for _, a := range []*area{&r.send, &r.recv} {
		if err := a.free(); err != nil {
			return err
		}
	}
	if err := r.gpu.close(); err != nil {
		return err
	}
	if r.comm != world && r.comm != nil {
		return r.comm.Close(ctx)
	}
	return nil
}

// rootsOf returns the roots to test among a number of ranks.
func rootsOf(root, ranks int) []int {
	if root != AllRoots {
		return []int{root}
	}
	all := make([]int, ranks)
	for i := range all {
		all[i] = i
	}
	return all
}

// tests returns the tests of a collective, in nccl-tests' order: types, operators, roots.
func (r *rank) tests(c Collective) []test {
	if c == Barrier {
		return []test{{collective: c, op: None, root: -1}}
	}
	ops, roots := []Op{None}, []int{-1}
	if c.reduces() {
		ops = r.cfg.Ops
	}
	if c.rooted() {
		roots = r.roots
	}
	var tests []test
	for _, d := range r.cfg.Types {
		for _, o := range ops {
			for _, root := range roots {
				tests = append(tests, test{c, d, o, root})
			}
		}
	}
	return tests
}

// collective runs all tests of one collective: what one nccl-tests program does.
func (r *rank) collective(ctx context.Context, c Collective) error {
	tests := r.tests(c)
	if r.report != nil {
		r.report.begin(c, r.max, len(tests))
	}
	before := r.summary.OutOfBounds
	for _, t := range tests {
		if err := r.sweep(ctx, t); err != nil {
			return fmt.Errorf("bench: %s %s %s: %w", c, t.typeName(), t.op, err)
		}
	}
	slow := 0.0
	if r.report != nil && r.report.end(c, r.summary.OutOfBounds-before) {
		slow = 1
	}
	slow, err := r.control.reduce(ctx, slow, hfreduce.Max)
	r.summary.Slow = r.summary.Slow || slow > 0
	return err
}

// sweep warms up and measures every size, Cycles times.
func (r *rank) sweep(ctx context.Context, t test) error {
	if err := r.control.barrier(ctx); err != nil {
		return err
	}
	r.prepare(t)
	if err := r.warmUp(ctx, t); err != nil {
		return err
	}
	for cycle := 0; cycle < r.cfg.Cycles || r.cfg.Cycles == 0; cycle++ {
		for size := range r.sizes(t) {
			if err := r.row(ctx, t, size); err != nil {
				return err
			}
		}
		if r.report != nil {
			r.report.swept()
		}
	}
	return nil
}

// prepare computes the pattern that a test needs, unless the test before had the same.
func (r *rank) prepare(t test) {
	if r.cfg.Check == 0 || t.collective == Barrier {
		return
	}
	if p := r.pattern; p != nil && p.dtype == t.dtype && p.op == t.op {
		return
	}
	r.pattern = newPattern(t.dtype, t.op, r.ranks, r.cfg.hooks.period)
	r.inputs = r.pattern.inputs(r.number)
	if t.collective.reduces() {
		r.results = r.pattern.results()
	}
}

// row measures one size out of place and in place and reports it.
func (r *rank) row(ctx context.Context, t test, size int64) error {
	s := t.collective.shape(size, t.elem(), r.ranks)
	line := row{test: t, bytes: max(s.send, s.recv) * int64(t.elem()), count: s.count}
	for i := range line.cells {
		if r.report != nil {
			r.report.step(line, i == inPlaceCell)
		}
		var err error
		if line.cells[i], err = r.measure(ctx, t, s, i == inPlaceCell); err != nil {
			return fmt.Errorf("%d bytes: %w", line.bytes, err)
		}
	}
	if r.report != nil {
		return r.report.row(line)
	}
	return nil
}

// elem returns the bytes of an element.
func (t test) elem() int {
	if t.collective == Barrier {
		return 1
	}
	return t.dtype.Size()
}

// typeName returns the data type as the report names it.
func (t test) typeName() string {
	if t.collective == Barrier {
		return None.String()
	}
	return t.dtype.String()
}
