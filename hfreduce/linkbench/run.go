// SPDX-License-Identifier: Apache-2.0

package linkbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// Output is where a run writes, on rank 0. Every writer may be nil.
type Output struct {
	Table        io.Writer // the report
	Document     io.Writer // the JSON document
	DocumentName string    // how the table calls it
	Progress     Progress
}

// Progress shows how far a run is. Its methods are called by one goroutine.
type Progress interface {
	// Step is called before each of total pairs, done of which are over.
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

// hooks are what tests replace.
type hooks struct {
	measure func(ctx context.Context, c *hfreduce.Comm, t hfreduce.LinkTest) (hfreduce.LinkResult, error)
	now     func() time.Time
}

func (h *hooks) defaults() {
	if h.measure == nil {
		h.measure = func(ctx context.Context, c *hfreduce.Comm, t hfreduce.LinkTest) (hfreduce.LinkResult, error) {
			return c.MeasureLink(ctx, t)
		}
	}
	if h.now == nil {
		h.now = time.Now
	}
}

// Summary is what a run found, the same on every rank.
type Summary struct {
	Pairs int // measured
	Wrong int // messages with wrong bytes
}

// pair is two ranks on different nodes.
type pair struct{ from, to hfreduce.RankInfo }

func (p pair) String() string {
	return fmt.Sprintf("rank %d (%s) -> %d (%s)", p.from.Rank, p.from.Host, p.to.Rank, p.to.Host)
}

// pairsOf returns the pairs among the first ranks of the nodes.
func pairsOf(choice Pairs, ranks []hfreduce.RankInfo) (all []pair) {
	var firsts []hfreduce.RankInfo // nodes are numbered in the order of their first ranks
	for _, r := range ranks {
		if r.LocalRank == 0 {
			firsts = append(firsts, r)
		}
	}
	n := len(firsts)
	switch {
	case n < 2:
	case choice == All:
		for i, from := range firsts {
			for _, to := range firsts[i+1:] {
				all = append(all, pair{from, to})
			}
		}
	case n == 2:
		all = []pair{{firsts[0], firsts[1]}}
	default:
		for i, from := range firsts {
			all = append(all, pair{from, firsts[(i+1)%n]})
		}
	}
	return all
}

// Run measures all pairs and writes the report on rank 0. Every rank calls it with the same configuration. An error means
// that it could not be run to the end; one that is hfreduce.ErrInvalid, that it could not begin. Wrong data is told in the
// Summary.
func Run(ctx context.Context, cfg Config, comm *hfreduce.Comm, out Output) (summary Summary, err error) {
	if err := cfg.Validate(); err != nil {
		return Summary{}, fmt.Errorf("linkbench: %w: %w", hfreduce.ErrInvalid, err)
	}
	ranks := comm.Ranks()
	pairs := pairsOf(cfg.Pairs, ranks)
	if len(pairs) == 0 {
		return Summary{}, fmt.Errorf("linkbench: %w: the %d ranks are on one node, where they share memory; start ranks on two nodes, or --nodes 2 virtual ones", hfreduce.ErrInvalid, len(ranks))
	}
	cfg.hooks.defaults()
	out.defaults()
	if comm.Rank() != 0 {
		out.Table, out.Document = io.Discard, nil
	}
	r := newReport(&cfg, out)
	r.begin(comm.Nodes(), len(ranks), len(pairs))
	for i, p := range pairs {
		out.Progress.Step(i, len(pairs), p.String())
		t := hfreduce.LinkTest{
			From: p.from.Rank, To: p.to.Rank, Mode: cfg.Mode, Sizes: cfg.sizes(), Window: cfg.Window, Iters: cfg.Iters,
			Warmup: cfg.Warmup, Check: cfg.Check,
		}
		found, failure := cfg.hooks.measure(ctx, comm, t)
		if failure != nil {
			err = fmt.Errorf("linkbench: %v: %w", p, failure)
			break
		}
		summary.Pairs++
		for _, f := range found.Figures {
			summary.Wrong += f.Wrong
		}
		r.pair(p, found)
	}
	return summary, errors.Join(err, r.finish(err))
}
