// SPDX-License-Identifier: Apache-2.0

package linkbench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/internal/golden"
)

// outcome is what the ranks of a run return, and what rank 0 writes.
type outcome struct {
	summaries       []returned
	table, document string
}

type returned struct {
	Summary
	err error
}

// runOn runs on the ranks of an in-process world.
func runOn(t *testing.T, nodeOf []int, cfg Config) outcome {
	t.Helper()
	comms, err := hfreduce.NewLocal(nodeOf, hfreduce.Options{Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	o := outcome{summaries: make([]returned, len(comms))}
	var table, document bytes.Buffer
	var wg sync.WaitGroup
	for i, c := range comms {
		wg.Go(func() {
			s := &o.summaries[i]
			s.Summary, s.err = Run(context.Background(), cfg, c, Output{Table: &table, Document: &document, DocumentName: "out.json"})
			if err := c.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	o.table, o.document = table.String(), document.String()
	return o
}

// Real measurements: all ranks agree, and there is a row for each pair and size.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		nodeOf []int
		pairs  Pairs
		want   int
	}{
		{[]int{0, 1}, Ring, 1}, {[]int{0, 1}, All, 1}, {[]int{0, 0, 1, 1, 2}, Ring, 3}, {[]int{0, 1, 2, 3}, Ring, 4}, {[]int{0, 1, 0, 2, 3}, All, 6},
	} {
		for mode := hfreduce.LinkBandwidth; mode <= hfreduce.LinkLatency; mode++ {
			cfg := DefaultConfig(mode)
			cfg.Pairs, cfg.MinBytes, cfg.MaxBytes, cfg.StepFactor, cfg.Iters, cfg.Warmup = c.pairs, 8, 8192, 32, 20, 2
			o := runOn(t, c.nodeOf, cfg)
			for rank, s := range o.summaries {
				if s.err != nil || s.Pairs != c.want || s.Wrong != 0 {
					t.Errorf("%v %v: rank %d: %+v", c.nodeOf, mode, rank, s)
				}
			}
			rows := strings.Count(o.table, " mem  ")
			var d document
			err := json.Unmarshal([]byte(o.document), &d)
			if err != nil || rows != 3*c.want || len(d.Results) != rows {
				t.Errorf("%v %v: %d rows, %d results, %v:\n%s", c.nodeOf, mode, rows, len(d.Results), err, o.table)
			}
			for _, r := range d.Results {
				if r.Time <= 0 || r.Checked == 0 || (r.Latency == nil) != (mode != hfreduce.LinkLatency) || r.Bandwidth != nil && *r.Bandwidth <= 0 {
					t.Errorf("%v: %+v", mode, r)
				}
			}
		}
	}
}

func TestRunOnOneNode(t *testing.T) {
	for rank, s := range runOn(t, []int{0, 0, 0}, DefaultConfig(hfreduce.LinkBoth)).summaries {
		if !errors.Is(s.err, hfreduce.ErrInvalid) || !strings.Contains(s.err.Error(), "3 ranks are on one node") {
			t.Errorf("rank %d: %v", rank, s.err)
		}
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(c *Config){
		"mode LinkMode(7)":             func(c *Config) { c.Mode = 7 },
		"--pairs Pairs(2)":             func(c *Config) { c.Pairs = 2 },
		"-b 0: give":                   func(c *Config) { c.MinBytes = 0 },
		"-e 1073741825:":               func(c *Config) { c.MaxBytes = 1<<30 + 1 },
		"-b 65536 is above -e 8; give": func(c *Config) { c.MaxBytes = 8 },
		"-f 1: give":                   func(c *Config) { c.StepFactor = 1 },
		"--window 0: give":             func(c *Config) { c.Window = 0 },
		"--window 257: give":           func(c *Config) { c.Window = 257 },
		"more than 8G":                 func(c *Config) { c.Window, c.MaxBytes = 9, 1<<30 },
		"-n 0: give":                   func(c *Config) { c.Iters = 0 },
		"-w -1: give":                  func(c *Config) { c.Warmup = -1 },
	} {
		c := DefaultConfig(hfreduce.LinkBandwidth)
		change(&c)
		_, err := Run(context.Background(), c, nil, Output{})
		if !errors.Is(err, hfreduce.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrInvalid with %q", err, want)
		}
	}
	if _, err := ParseMode("rtt"); err == nil {
		t.Error("rtt is a mode")
	}
	if _, err := ParsePairs("some"); err == nil {
		t.Error("some is a choice of pairs")
	}
}

func TestSizes(t *testing.T) {
	for want, c := range map[string]Config{
		"[8]":                         {MinBytes: 8, MaxBytes: 8, StepFactor: 4},
		"[8 32]":                      {MinBytes: 8, MaxBytes: 127, StepFactor: 4},
		"[1 1024 1048576 1073741824]": {MinBytes: 1, MaxBytes: 1 << 30, StepFactor: 1 << 10},
		"[536870912 1073741824]":      {MinBytes: 1 << 29, MaxBytes: 1 << 30, StepFactor: 2},
		"[3]":                         {MinBytes: 3, MaxBytes: 1 << 30, StepFactor: 1 << 62},
	} {
		if got := fmt.Sprint(c.sizes()); got != want {
			t.Errorf("%+v: %v, want %v", c, got, want)
		}
	}
}

// Reports with given figures: of pairs that differ, one of them with wrong data, over two transports.
func TestGoldenReports(t *testing.T) {
	for mode := hfreduce.LinkBandwidth; mode <= hfreduce.LinkLatency; mode++ {
		cfg := DefaultConfig(mode)
		cfg.Args = []string{"hfreduce", "bench", "link"}
		cfg.Check = mode != hfreduce.LinkBoth
		cfg.hooks.now = func() time.Time { return time.Date(2026, 11, 24, 12, 30, 59, 0, time.UTC) }
		cfg.hooks.measure = fake
		o := runOn(t, []int{0, 1, 1, 2}, cfg)
		for rank, s := range o.summaries {
			if want := 3 * len(cfg.sizes()); s.err != nil || s.Pairs != 3 || s.Wrong != want && cfg.Check {
				t.Errorf("rank %d: %+v", rank, s)
			}
		}
		golden.Check(t, mode.String()+".txt", strings.ReplaceAll(o.table, hfreduce.Version(), "v0.0.0"))
		golden.Check(t, mode.String()+".json", strings.ReplaceAll(o.document, hfreduce.Version(), "v0.0.0"))
	}
}

// fake makes up figures.
func fake(_ context.Context, _ *hfreduce.Comm, t hfreduce.LinkTest) (r hfreduce.LinkResult, err error) {
	r.Transport = []string{"verbs", "tcp", "verbs", "verbs"}[t.From]
	for _, size := range t.Sizes {
		us := float64(t.From+1) * float64(size) / 1000
		f := hfreduce.LinkFigure{Bytes: size, Seconds: us / 1e6}
		if t.Check {
			f.Checked = 16
		}
		if t.Mode == hfreduce.LinkLatency {
			d := time.Duration(1000 * (t.From + 1))
			f.Latency = hfreduce.LinkTimes{Min: d, Median: d * 5 / 4, Mean: d * 3 / 2, P99: 3 * d, Max: 40 * d}
		} else {
			f.BytesPerSecond = float64(size) / f.Seconds
		}
		if t.From == 1 && t.Check {
			f.Wrong, f.Fault = 3, fmt.Sprintf("byte 7 of message 4, of %d bytes, from rank 1 is wrong", size)
		}
		r.Figures = append(r.Figures, f)
	}
	return r, nil
}

func TestFailureIsReported(t *testing.T) {
	cfg := DefaultConfig(hfreduce.LinkLatency)
	broken := errors.New("cut by a digger")
	cfg.hooks.measure = func(ctx context.Context, c *hfreduce.Comm, l hfreduce.LinkTest) (hfreduce.LinkResult, error) {
		if l.From == 1 {
			return hfreduce.LinkResult{}, broken
		}
		return fake(ctx, c, l)
	}
	o := runOn(t, []int{0, 1, 2}, cfg)
	for rank, s := range o.summaries {
		if !errors.Is(s.err, broken) || s.Pairs != 1 || !strings.Contains(s.err.Error(), "rank 1 (node1) -> 2 (node2)") {
			t.Errorf("rank %d: %+v", rank, s)
		}
	}
	if !strings.Contains(o.table, "# error: linkbench: rank 1") || !strings.Contains(o.document, "cut by a digger") {
		t.Errorf("%s%s", o.table, o.document)
	}
}
