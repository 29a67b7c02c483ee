// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// small returns a configuration that is quick: a few sizes, few iterations.
func small() Config {
	c := DefaultConfig()
	c.MinBytes, c.MaxBytes, c.StepFactor, c.Iters = 4, 16<<10, 16, 2
	c.hooks.period = 211
	return c
}

// newComms returns the communicators of ranks on nodes, all in this process.
func newComms(t *testing.T, nodeOf ...int) []*hfreduce.Comm {
	t.Helper()
	return newCommsWith(t, hfreduce.Options{Timeout: time.Minute}, nodeOf...)
}

func newCommsWith(t *testing.T, o hfreduce.Options, nodeOf ...int) []*hfreduce.Comm {
	t.Helper()
	comms, err := hfreduce.NewLocal(nodeOf, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		done := make(chan error)
		for _, c := range comms {
			go func() { done <- c.Close(context.Background()) }()
		}
		for range comms {
			<-done
		}
	})
	return comms
}

// outcome is what a run came to.
type outcome struct {
	Summary
	table, document, diagnostics string
	err                          error
}

func runOn(ctx context.Context, cfg Config, comms []*hfreduce.Comm) outcome {
	var table, document, diagnostics bytes.Buffer
	s, err := Run(ctx, cfg, comms, Output{Table: &table, Document: &document, DocumentName: "out.json", Diagnostics: &diagnostics})
	return outcome{s, table.String(), document.String(), diagnostics.String(), err}
}

// rows returns the lines of the table that hold results, split into columns.
func rows(table string) (all [][]string) {
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "#") && strings.TrimSpace(line) != "" {
			all = append(all, strings.Fields(line))
		}
	}
	return all
}

// Everything is right, for every collective, type and operator, on nodes of different sizes.
func TestAllIsRight(t *testing.T) {
	cfg := small()
	cfg.Collectives, cfg.Types, cfg.Ops, cfg.Root = Collectives(), hfreduce.DataTypes(), Ops(), AllRoots
	cfg.Iters, cfg.Warmup, cfg.StepFactor = 1, 0, 1<<10
	got := runOn(t.Context(), cfg, newComms(t, 0, 1, 0))
	if got.err != nil || got.Failed() {
		t.Fatalf("%+v, %v\n%s", got.Summary, got.err, got.diagnostics)
	}
	want := 2 * (12*6*(1+3+1) + 12*(3+1)) // sizes; allreduce, reduce with 3 roots, reducescatter; broadcast, allgather
	if all := rows(got.table); len(all) != want+1 {
		t.Errorf("%d rows, want %d and one of the barrier", len(all), want)
	} else {
		for _, row := range all {
			if len(row) != 13 || row[8] != "0" || row[12] != "0" {
				t.Errorf("row %q", row)
			}
		}
	}
}

// The ways of running give right results as well.
func TestWaysOfRunning(t *testing.T) {
	for name, set := range map[string]func(c *Config){
		"aggregated":    func(c *Config) { c.Aggregate = 3 },
		"wait+barrier":  func(c *Config) { c.Blocking, c.Aggregate = WaitAndBarrier, 2 },
		"wait":          func(c *Config) { c.Blocking = WaitOnly },
		"barrier apart": func(c *Config) { c.Blocking = BarrierPerIters },
		"cpu time":      func(c *Config) { c.CPUTime = true },
		"unaligned":     func(c *Config) { c.Unalign = 3 },
		"registered":    func(c *Config) { c.Registered = true },
		"rank 0":        func(c *Config) { c.Average = RankZero },
		"minimum":       func(c *Config) { c.Average = Fastest },
		"per iteration": func(c *Config) { c.PerIter, c.PerIterSkip = true, 1 },
		"threads":       func(c *Config) { c.Threads = 4 },
		"cycles":        func(c *Config) { c.Cycles, c.Check = 2, 3 },
		"no check":      func(c *Config) { c.Check = 0 },
		"time limit":    func(c *Config) { c.Timeout = time.Hour },
		"empty":         func(c *Config) { c.MinBytes, c.MaxBytes = 0, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := small()
			cfg.Collectives = Collectives()
			set(&cfg)
			got := runOn(t.Context(), cfg, newComms(t, 0, 0, 1, 1))
			if got.err != nil || got.Failed() || len(rows(got.table)) == 0 {
				t.Fatalf("%+v, %v\n%s%s", got.Summary, got.err, got.diagnostics, got.table)
			}
		})
	}
}

// Groups run side by side, each on its own data.
func TestGroups(t *testing.T) {
	cfg := small()
	cfg.Collectives = Collectives()
	cfg.Split, _ = ParseSplit("", "MOD 2")
	got := runOn(t.Context(), cfg, newComms(t, 0, 0, 1, 1, 1))
	if got.err != nil || got.Failed() {
		t.Fatalf("%+v, %v\n%s", got.Summary, got.err, got.diagnostics)
	}
	for _, want := range []string{"#  Rank  0 Group  0", "#  Rank  3 Group  1", "#  Rank  4 Group  0"} {
		if !strings.Contains(got.table, want) {
			t.Errorf("table lacks %q", want)
		}
	}
	if row := rows(got.table)[0]; row[4] != "-1" || row[0] != "4" {
		t.Errorf("row %q", row)
	}
}

// A corrupted result is found: the table, the summary and the diagnostics say so.
func TestCorruptionIsFound(t *testing.T) {
	flip := func(rank, at int) func(Collective, int, bool, window) {
		return func(_ Collective, r int, _ bool, w window) {
			if r == rank && len(w.payload()) > at {
				w.payload()[at] ^= 1
			}
		}
	}
	for name, c := range map[string]struct {
		corrupt    func(c Collective, rank int, inPlace bool, w window)
		collective Collective
		wrong      string // in the row of the largest size, out of place
		complaint  string
	}{
		"one bit":           {flip(1, 5), AllReduce, "1", "rank 1: 1 wrong elements"},
		"one bit gathered":  {flip(2, 4000), AllGather, "1", "rank 2: 1 wrong elements"},
		"one bit scattered": {flip(0, 0), ReduceScatter, "1", "rank 0: 1 wrong elements"},
		"one bit sent":      {flip(2, 8), Broadcast, "1", "rank 2: 1 wrong elements"},
		"on no root":        {flip(1, 0), Reduce, "1", "rank 1: 1 wrong elements"},
		"nothing written": {func(_ Collective, r int, _ bool, w window) {
			if r == 2 {
				clear(w.payload())
			}
		}, AllReduce, "4096", "rank 2: 4096 wrong elements"},
		"moved by one element": {func(_ Collective, r int, _ bool, w window) {
			copy(w.payload()[4:], w.payload())
		}, AllReduce, "1", "wrong elements"},
		"before the buffer": {func(_ Collective, r int, _ bool, w window) { w.all[w.from-1]++ }, AllReduce, "0", "outside of the destination"},
		"behind the buffer": {func(_ Collective, r int, _ bool, w window) { w.all[w.to]++ }, Broadcast, "0", "outside of the destination"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := small()
			cfg.Collectives, cfg.hooks.corrupt = []Collective{c.collective}, c.corrupt
			got := runOn(t.Context(), cfg, newComms(t, 0, 0, 1))
			if got.err != nil {
				t.Fatal(got.err)
			}
			if !got.Failed() || got.OutOfBounds == 0 {
				t.Errorf("passes as %+v", got.Summary)
			}
			all := rows(got.table)
			if row := all[len(all)-1]; row[8] != c.wrong && (c.wrong != "1" || name != "moved by one element" || row[8] == "0") {
				t.Errorf("row %q, want %s wrong elements", row, c.wrong)
			}
			if !strings.Contains(got.diagnostics, c.complaint) {
				t.Errorf("diagnostics %q lack %q", got.diagnostics, c.complaint)
			}
			if !strings.Contains(got.table, "FAILED") || strings.Contains(got.table, "Out of bounds values : 0") {
				t.Errorf("footer does not tell:\n%s", got.table)
			}
		})
	}
}

// A collective that writes into its source is found.
func TestChangedSourceIsFound(t *testing.T) {
	r := &rank{cfg: &Config{hooks: hooks{period: 7}}, ranks: 2, max: 64}
	r.out.defaults()
	test := test{AllReduce, hfreduce.TypeFloat32, Sum, -1}
	r.cfg.Check = 1
	r.prepare(test)
	for _, a := range []*area{&r.send, &r.recv} {
		*a = area{bytes: alignedBytes(64 + 2*guardBytes)}
	}
	s := test.collective.shape(64, 4, 2)
	for name, spoil := range map[string]func(w windows){
		"no change": func(windows) {},
		"source":    func(w windows) { w.src.payload()[3]++ },
		"guard":     func(w windows) { w.src.all[w.src.to]++ },
	} {
		w := r.windows(test, s, false)
		if err := r.fill(w, test, 1); err != nil {
			t.Fatal(err)
		}
		r.results.fill(w.dst.payload(), 0, 1)
		spoil(w)
		wrong, faults := r.verify(w, test, s, 1)
		if wrong != 0 || (faults == 0) != (name == "no change") {
			t.Errorf("%s: %d wrong, %d faults", name, wrong, faults)
		}
	}
}

func TestOtherBlocksMustStay(t *testing.T) {
	r := &rank{cfg: &Config{Check: 1, hooks: hooks{period: 7}}, ranks: 2, number: 1, max: 64}
	r.out.defaults()
	test := test{ReduceScatter, hfreduce.TypeFloat32, Sum, -1}
	r.prepare(test)
	r.recv = area{bytes: alignedBytes(64 + 2*guardBytes)}
	s := test.collective.shape(64, 4, 2)
	w := r.windows(test, s, true)
	if err := r.fill(w, test, 1); err != nil {
		t.Fatal(err)
	}
	r.results.fill(w.dst.payload(), s.count, 1)
	if wrong, faults := r.verify(w, test, s, 1); wrong != 0 || faults != 0 {
		t.Fatalf("%d wrong, %d faults", wrong, faults)
	}
	w.whole.payload()[0]++
	if wrong, faults := r.verify(w, test, s, 1); wrong != 0 || faults != 1 {
		t.Errorf("block of rank 0 changed: %d wrong, %d faults", wrong, faults)
	}
}

func TestMinBandwidth(t *testing.T) {
	for want, slow := range map[float64]bool{0: false, 1e9: true} {
		cfg := small()
		cfg.MinBandwidth = want
		got := runOn(t.Context(), cfg, newComms(t, 0, 0))
		if got.err != nil || got.Slow != slow || got.Failed() != slow {
			t.Errorf("at least %v: %+v, %v", want, got.Summary, got.err)
		}
		if verdict := map[bool]string{false: " OK\n", true: " FAILED\n"}[slow]; !strings.Contains(got.table, verdict) {
			t.Errorf("at least %v: table lacks %q", want, verdict)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	comms := newComms(t, 0, 0, 0)
	for name, c := range map[string]struct {
		spoil func(c *Config)
		comms []*hfreduce.Comm
	}{
		"-n 0":            {func(c *Config) { c.Iters = 0 }, comms},
		"no communicator": {func(c *Config) {}, nil},
		"not a multiple":  {func(c *Config) { c.Threads = 2 }, comms},
		"-r 3 is not":     {func(c *Config) { c.Root, c.Collectives = 3, []Collective{Reduce} }, comms},
	} {
		cfg := small()
		c.spoil(&cfg)
		if got := runOn(t.Context(), cfg, c.comms); !errors.Is(got.err, hfreduce.ErrInvalid) || !strings.Contains(got.err.Error(), name) {
			t.Errorf("%s: %v", name, got.err)
		}
	}
}

// A measurement that takes too long ends the run with an error that says so.
func TestTimeout(t *testing.T) {
	cfg := small()
	cfg.Timeout = time.Nanosecond
	got := runOn(t.Context(), cfg, newComms(t, 0, 0))
	if !errors.Is(got.err, context.DeadlineExceeded) && !errors.Is(got.err, hfreduce.ErrAborted) {
		t.Fatalf("error %v", got.err)
	}
	if !strings.Contains(got.table, "# error: bench: allreduce float sum") || !strings.Contains(got.document, `"errors": [`+"\n    \"bench:") {
		t.Errorf("the report does not tell:\n%s%s", got.table, got.document)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteErrorsAreReported(t *testing.T) {
	comms := newComms(t, 0, 0)
	if _, err := Run(t.Context(), small(), comms, Output{Table: failingWriter{}}); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("table: %v", err)
	}
	if _, err := Run(t.Context(), small(), newComms(t, 0, 0), Output{Document: failingWriter{}}); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("document: %v", err)
	}
}

// steps records the progress.
type steps struct {
	total, last, hidden int
	lines               []string
}

func (s *steps) Step(done, total int, what string) {
	s.last, s.total = done, total
	s.lines = append(s.lines, what)
}

func (s *steps) Hide() { s.hidden++ }

func TestProgress(t *testing.T) {
	p := new(steps)
	if _, err := Run(t.Context(), small(), newComms(t, 0, 0), Output{Progress: p}); err != nil {
		t.Fatal(err)
	}
	if p.total != 8 || p.last != 7 || p.hidden < 4 || p.lines[1] != "allreduce float sum 4 B in place" {
		t.Errorf("%+v", p)
	}
}

// The times are those of the clock: what is reported does not depend on how long anything takes.
func fakeClock(steps ...time.Duration) func() func() time.Duration {
	return func() func() time.Duration {
		now, n := time.Duration(0), 0
		return func() time.Duration {
			now += steps[n%len(steps)]
			n++
			return now
		}
	}
}

func TestBarriersCanBeLeftOutOfTheTime(t *testing.T) {
	cfg := small()
	cfg.MinBytes, cfg.Iters, cfg.Blocking = cfg.MaxBytes, 2, BarrierPerIters
	// Looks at the clock: begin; after each of two iterations and after its barrier; end.
	us := time.Microsecond
	cfg.hooks.clock = fakeClock(0, 3*us, 100*us, 5*us, 100*us, 0)
	got := runOn(t.Context(), cfg, newComms(t, 0, 0))
	if got.err != nil {
		t.Fatal(got.err)
	}
	if row := rows(got.table)[0]; row[5] != "4.00" {
		t.Errorf("row %q, want 4.00 us", row)
	}
}

func ExampleParseSize() {
	n, err := ParseSize("1.5M")
	fmt.Println(n, err)
	// Output: 1572864 <nil>
}
