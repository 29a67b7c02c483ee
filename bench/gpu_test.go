// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/internal/fakecuda"
	"github.com/hfreduce/hfreduce/internal/golden"
	"github.com/hfreduce/hfreduce/internal/testreq"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if err := fakecuda.Use(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// needGPU skips the test where there is no CUDA, not even the fake one. What the test takes of it must be given back.
func needGPU(t *testing.T) {
	t.Helper()
	fakecuda.Need(t)
	if err := cuda.Available(); err != nil {
		if strings.Contains(err.Error(), "without cgo") {
			testreq.Missing(t, "cuda", err.Error())
		}
		t.Fatal(err)
	}
	before := fmt.Sprint(cuda.Live())
	t.Cleanup(func() {
		if after := fmt.Sprint(cuda.Live()); after != before {
			t.Errorf("left behind: %s, %s before", after, before)
		}
	})
}

// smallOnGPU is small with buffers in GPU memory. What copies reach is measured with small copies.
func smallOnGPU() Config {
	c := small()
	c.GPUs, c.DeviceChunkBytes = 1, 4096
	return c
}

// newGPUComms is newComms of communicators made for GPUs. Small chunks let small buffers go through the ring of slots.
func newGPUComms(t *testing.T, nodeOf ...int) []*hfreduce.Comm {
	return newCommsWith(t, hfreduce.Options{CUDA: hfreduce.CUDAOn, ChunkBytes: 4096, DeviceChunkBytes: 4096, Timeout: time.Minute}, nodeOf...)
}

// Everything is right on GPU memory: every collective and type, and every operator with two of the types.
func TestGPUAllIsRight(t *testing.T) {
	needGPU(t)
	comms := newGPUComms(t, 0, 1, 0)
	for _, c := range []struct {
		types []hfreduce.DataType
		ops   []Op
		rows  int
	}{
		{hfreduce.DataTypes(), []Op{Sum}, 12 * (1 + 3 + 3 + 1 + 1)},
		{[]hfreduce.DataType{hfreduce.TypeBFloat16, hfreduce.TypeInt64}, Ops(), 2 * (6*(1+3+1) + 3 + 1)},
	} {
		cfg := smallOnGPU()
		cfg.Collectives, cfg.Types, cfg.Ops, cfg.Root = Collectives(), c.types, c.ops, AllRoots
		cfg.Iters, cfg.Warmup, cfg.MinBytes = 1, 0, cfg.MaxBytes
		got := runOn(t.Context(), cfg, comms)
		if got.err != nil || got.Failed() {
			t.Fatalf("%+v, %v\n%s", got.Summary, got.err, got.diagnostics)
		}
		all := rows(got.table)
		if len(all) != c.rows+1 {
			t.Errorf("%d rows, want %d and one of the barrier", len(all), c.rows)
		}
		for _, row := range all {
			if len(row) != 13 || row[8] != "0" || row[12] != "0" {
				t.Errorf("row %q", row)
			}
		}
	}
}

// The ways of running give right results on GPU memory as well.
func TestGPUWaysOfRunning(t *testing.T) {
	needGPU(t)
	for name, set := range map[string]func(c *Config){
		"aggregated":    func(c *Config) { c.Aggregate = 3 },
		"wait+barrier":  func(c *Config) { c.Blocking, c.Aggregate = WaitAndBarrier, 2 },
		"wait":          func(c *Config) { c.Blocking = WaitOnly },
		"barrier apart": func(c *Config) { c.Blocking = BarrierPerIters },
		"unaligned":     func(c *Config) { c.Unalign = 3 },
		"per iteration": func(c *Config) { c.PerIter, c.PerIterSkip = true, 1 },
		"cycles":        func(c *Config) { c.Cycles, c.Check, c.Phases = 2, 3, true },
		"no check":      func(c *Config) { c.Check = 0 },
		"time limit":    func(c *Config) { c.Timeout = time.Hour },
		"empty":         func(c *Config) { c.MinBytes, c.MaxBytes = 0, 0 },
		"groups":        func(c *Config) { c.Split, _ = ParseSplit("", "MOD 2") },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := smallOnGPU()
			cfg.Collectives, cfg.MinBytes = Collectives(), cfg.MaxBytes
			set(&cfg)
			got := runOn(t.Context(), cfg, newGPUComms(t, 0, 0, 1, 1))
			if got.err != nil || got.Failed() || len(rows(got.table)) < 6 {
				t.Fatalf("%+v, %v\n%s%s", got.Summary, got.err, got.diagnostics, got.table)
			}
		})
	}
}

// A result that is wrong in the GPU's memory is found.
func TestGPUCorruptionIsFound(t *testing.T) {
	needGPU(t)
	cfg := smallOnGPU()
	cfg.MinBytes = cfg.MaxBytes
	cfg.hooks.corrupt = func(_ Collective, rank int, _ bool, w window) {
		if rank != 1 {
			return
		}
		w.payload()[9] ^= 1
		if err := errors.Join(w.store(), w.load()); err != nil {
			t.Error(err)
		}
	}
	got := runOn(t.Context(), cfg, newGPUComms(t, 0, 0))
	if row := rows(got.table)[0]; got.err != nil || row[8] != "1" || row[12] != "1" || got.OutOfBounds != 2 {
		t.Errorf("row %q, %+v, %v", row, got.Summary, got.err)
	}
}

// What is stored comes back, over many stagings and nothing beside it.
func TestGPUWindowsReachTheirMemory(t *testing.T) {
	needGPU(t)
	g, err := openGPU(0)
	if err != nil {
		t.Fatal(err)
	}
	r := &rank{cfg: &Config{}, max: 2*stagingBytes + 4711, gpu: g}
	a, err := r.newArea()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(a.free(), g.close()); err != nil {
			t.Error(err)
		}
	})
	whole, part := a.window(0, r.max), a.window(100, stagingBytes+13)
	for i := range a.bytes {
		a.bytes[i] = byte(i * 31 >> 3)
	}
	want := bytes.Clone(a.bytes)
	if err := whole.store(); err != nil {
		t.Fatal(err)
	}
	for i := range a.bytes {
		a.bytes[i] = 0xee
	}
	if err := part.load(); err != nil {
		t.Fatal(err)
	}
	from, to := part.from-guardBytes, part.to+guardBytes
	if !bytes.Equal(a.bytes[from:to], want[from:to]) {
		t.Error("the part does not come back")
	}
	if n := bytes.Count(a.bytes, []byte{0xee}) - bytes.Count(want[from:to], []byte{0xee}); n != len(a.bytes)-int(to-from) {
		t.Errorf("%d bytes beside the part are untouched, want %d", n, len(a.bytes)-int(to-from))
	}
	if err := whole.load(); err != nil || !bytes.Equal(a.bytes, want) {
		t.Errorf("the whole does not come back, %v", err)
	}
}

func TestGPURefuses(t *testing.T) {
	needGPU(t)
	n, err := cuda.DeviceCount()
	if err != nil {
		t.Fatal(err)
	}
	cfg := smallOnGPU()
	cfg.GPUs = n + 1
	got := runOn(t.Context(), cfg, newComms(t, 0, 0))
	if want := fmt.Sprintf("bench: -g %d: this process sees %s; give at most -g %d", n+1, plural(n, "GPU"), n); !errors.Is(got.err, hfreduce.ErrInvalid) || !strings.Contains(got.err.Error(), want) {
		t.Errorf("%v, want %s", got.err, want)
	}
	// Communicators that were not made for GPUs say so themselves.
	if got := runOn(t.Context(), smallOnGPU(), newCommsWith(t, hfreduce.Options{CUDA: hfreduce.CUDAOff}, 0, 0)); !errors.Is(got.err, hfreduce.ErrNotSupported) {
		t.Errorf("communicators without GPUs: %v", got.err)
	}
}

// A call that cannot end lets go of the stream that is waited for.
func TestGPUTimeout(t *testing.T) {
	needGPU(t)
	cfg := smallOnGPU()
	cfg.Timeout, cfg.Check = time.Nanosecond, 0
	got := runOn(t.Context(), cfg, newGPUComms(t, 0, 0))
	if !errors.Is(got.err, context.DeadlineExceeded) && !errors.Is(got.err, hfreduce.ErrAborted) {
		t.Fatalf("error %v", got.err)
	}
}

// A rank that never calls keeps the others' streams waiting until the time is over.
func TestGPUTimeoutWhileTheStreamIsWaitedFor(t *testing.T) {
	needGPU(t)
	comms := newGPUComms(t, 0, 0)
	cfg := smallOnGPU()
	cfg.hooks.defaults()
	g, err := openGPU(0)
	if err != nil {
		t.Fatal(err)
	}
	r := &rank{cfg: &cfg, ranks: 2, max: 64, gpu: g, comm: comms[0], clock: cfg.hooks.clock()}
	for _, a := range []*area{&r.send, &r.recv} {
		if *a, err = r.newArea(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	test := test{AllReduce, hfreduce.TypeFloat32, Sum, -1}
	w := r.walk(test, test.collective.shape(64, 4, 2), false)
	if _, err := r.time(ctx, &w); !errors.Is(err, hfreduce.ErrAborted) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the end of the time", err)
	}
	if err := errors.Join(r.send.free(), r.recv.free(), g.close()); err != nil {
		t.Error(err)
	}
}

// The time of the calls ends when the stream has done them, not when they are started.
func TestGPUTimeIncludesTheStream(t *testing.T) {
	needGPU(t)
	g, err := openGPU(0)
	if err != nil {
		t.Fatal(err)
	}
	word, err := g.staging.Word(0)
	if err != nil {
		t.Fatal(err)
	}
	cfg := smallOnGPU()
	cfg.Iters = 2
	cfg.hooks.defaults()
	r := &rank{cfg: &cfg, ranks: 1, max: 64, gpu: g, comm: newGPUComms(t, 0)[0]}
	for _, a := range []*area{&r.send, &r.recv} {
		if *a, err = r.newArea(); err != nil {
			t.Fatal(err)
		}
	}
	looks, early := 0, false
	r.clock = func() time.Duration { // at the beginning; before and after each of two starts; at the end
		switch looks++; looks {
		case 5:
			go atomic.StoreUint32(word.Host, 1)
		case 6:
			early = atomic.LoadUint32(word.Host) == 0
		}
		return 0
	}
	g.list.Reset()
	g.list.Wait(g.stream, word, 1)
	if err := g.Run(&g.list); err != nil {
		t.Fatal(err)
	}
	test := test{AllReduce, hfreduce.TypeFloat32, Sum, -1}
	w := r.walk(test, test.collective.shape(64, 4, 1), true)
	if _, err := r.time(t.Context(), &w); err != nil || looks != 6 || early {
		t.Errorf("%v, %d looks at the clock, the last one before the stream was done: %t", err, looks, early)
	}
	if err := errors.Join(r.send.free(), r.recv.free(), g.close()); err != nil {
		t.Error(err)
	}
}

func TestGPUGoldenOutput(t *testing.T) {
	needGPU(t)
	fakecuda.NeedFake(t) // real GPUs have other names
	got := goldenOutcomeOn(t, newGPUComms(t, 0, 0, 1, 1), func(c *Config) {
		c.GPUs, c.DeviceChunkBytes, c.Phases, c.MinBytes = 1, 4096, true, 1024
		c.hooks.stats = fakeStats
	})
	golden.Check(t, "gpu.txt", anonymous(got.table))
	golden.Check(t, "gpu.json", anonymous(got.document))
}

// fakeStats are counters that grow by calls.
func fakeStats(comm *hfreduce.Comm) hfreduce.Stats {
	calls := comm.Stats().Collectives[0].Calls
	n := float64(calls) * float64(1+comm.Rank())
	return hfreduce.Stats{
		Links: []hfreduce.LinkStats{{SentBytes: 300 * calls, ReceivedBytes: 500 * calls}},
		Device: &hfreduce.DeviceStats{FilledBytes: 1024 * calls, DrainedBytes: 2048 * calls,
			FillSeconds: 1e-6 * n, ReduceSeconds: 2e-6 * n, NetworkSeconds: 3e-6 * n, DrainSeconds: 4e-6 * n},
	}
}

func TestPhases(t *testing.T) {
	from := hfreduce.Stats{Links: []hfreduce.LinkStats{{SentBytes: 100, ReceivedBytes: 1}, {SentBytes: 10}}}
	to := hfreduce.Stats{
		Links:  []hfreduce.LinkStats{{SentBytes: 4100, ReceivedBytes: 1}, {SentBytes: 2010}},
		Device: &hfreduce.DeviceStats{FilledBytes: 2e9, DrainedBytes: 4e9, FillSeconds: 1, ReduceSeconds: 2, DrainSeconds: 0.5},
	}
	p := phasesBetween(from, to, 2, 1e9)
	if p.seconds != [phaseCount]float64{0.5, 1, 0, 0.25} || p.bytes != [phaseCount]float64{1e9, 1e9, 3000, 2e9} {
		t.Errorf("%+v", p)
	}
	for phase, want := range []float64{2, 1, 0, 8} {
		if got := p.rate(phase); got != want {
			t.Errorf("%s: %v GB/s, want %v", phaseNames[phase], got, want)
		}
	}
	if p := phasesBetween(from, from, 1, 8); p.seconds != [phaseCount]float64{} || p.bytes != [phaseCount]float64{0, 8, 0, 0} {
		t.Errorf("without a GPU: %+v", p)
	}
}

// The table of phases is comments only, and its columns stand below their names.
func TestPhaseTable(t *testing.T) {
	line := row{test: test{AllReduce, hfreduce.TypeFloat32, Sum, -1}, bytes: 32 << 20}
	line.cells[inPlaceCell] = cell{seconds: 1e-3, phases: &phases{callMean: 2e-5, callMax: 3e-5}}
	text := phasesHead() + line.phaseLines()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	names, last := lines[len(lines)-3], lines[len(lines)-1]
	if len(names) != len(last) || !strings.HasSuffix(last, "  20.00    30.00") || !strings.Contains(last, " 33554432     float     sum      -1     in  1000.00 ") {
		t.Errorf("got\n%s", text)
	}
	for _, l := range lines {
		if !strings.HasPrefix(l, "#") {
			t.Errorf("%q is no comment", l)
		}
	}
}

func TestGPUsAsRanksTellOfThem(t *testing.T) {
	for _, name := range []string{"", "NVIDIA H100 80GB HBM3", strings.Repeat("x", gpuNameBytes)} {
		ordinal, address, got := decodeGPU(encodeGPU(7, "0000:65:00", name))
		if ordinal != 7 || address != "0000:65:00" || got != name {
			t.Errorf("%q becomes %d, %q, %q", name, ordinal, address, got)
		}
	}
}
