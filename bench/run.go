// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// Output is where a run writes. Every writer may be nil.
type Output struct {
	Table        io.Writer // the report, on rank 0
	Document     io.Writer // the JSON document, on rank 0
	DocumentName string    // how the table calls it
	Diagnostics  io.Writer // what exactly is wrong with a result, on any rank
	Progress     Progress  // on rank 0
}

// Progress shows how far a run is. Its methods are called by one goroutine.
type Progress interface {
	// Step is called before each of total measurements, done of which are over; total is 0 where there is no end.
	Step(done, total int, what string)
	// Hide is called before lines of the table are written.
	Hide()
}

// Summary is what a run found. It is the same on every rank.
type Summary struct {
	// OutOfBounds counts the verifications, over all ranks, that found wrong elements or changed guard bytes or sources.
	OutOfBounds int
	// Wrong counts the wrong elements.
	Wrong int64
	// Slow reports that an average bus bandwidth is below what Config.MinBandwidth asks for.
	Slow bool
}

// Failed reports whether the run must count as failed.
func (s Summary) Failed() bool { return s.OutOfBounds > 0 || s.Wrong > 0 || s.Slow }

// hooks are what tests replace.
type hooks struct {
	clock   func() func() time.Duration                          // makes a rank's monotonic clock
	now     func() time.Time                                     // time of day
	corrupt func(c Collective, rank int, inPlace bool, w window) // may change a result before it is verified
	period  int                                                  // of patterns
	stats   func(*hfreduce.Comm) hfreduce.Stats                  // a rank's counters
}

// defaults fills in the real things.
func (h *hooks) defaults() {
	if h.clock == nil {
		h.clock = func() func() time.Duration {
			start := time.Now()
			return func() time.Duration { return time.Since(start) }
		}
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.stats == nil {
		h.stats = (*hfreduce.Comm).Stats
	}
	if h.period == 0 {
		h.period = tablePeriod
	}
	if h.corrupt == nil {
		h.corrupt = func(Collective, int, bool, window) {}
	}
}

// Run runs the tests on this process's ranks, which are cfg.RanksPerProcess() in number and consecutive, and writes the
// report if rank 0 is among them. Every process calls it with the same configuration. An error means that the tests
// could not be run to the end; what they found is in the Summary. After an error the communicators are broken.
func Run(ctx context.Context, cfg Config, comms []*hfreduce.Comm, out Output) (Summary, error) {
	if err := cfg.Validate(); err != nil {
		return Summary{}, fmt.Errorf("bench: %w: %w", hfreduce.ErrInvalid, err)
	}
	if len(comms) == 0 {
		return Summary{}, fmt.Errorf("bench: no communicator given: %w", hfreduce.ErrInvalid)
	}
	if n := comms[0].WorldSize(); n%cfg.RanksPerProcess() != 0 {
		return Summary{}, fmt.Errorf("bench: %d ranks are not a multiple of the %d of each process (-t): %w", n, cfg.RanksPerProcess(), hfreduce.ErrInvalid)
	}
	if err := cfg.CheckGPUs(); err != nil {
		return Summary{}, err
	}
	cfg.hooks.defaults()
	out.defaults()
	summaries, errs := make([]Summary, len(comms)), make([]error, len(comms))
	var wg sync.WaitGroup
	for i, comm := range comms {
		wg.Go(func() {
			if summaries[i], errs[i] = runRank(ctx, cfg, comm, out); errs[i] != nil {
				comm.Abort(errs[i]) // so that the others do not wait for this rank
			}
		})
	}
	wg.Wait()
	return summaries[0], firstCause(errs)
}

// firstCause returns the error that others followed from, if it can be told: one that is not the echo of an abort.
func firstCause(errs []error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, hfreduce.ErrAborted) {
			return err
		}
	}
	return errors.Join(errs...)
}

func (o *Output) defaults() {
	if o.Table == nil {
		o.Table = io.Discard
	}
	if o.Diagnostics == nil {
		o.Diagnostics = io.Discard
	}
	if o.Progress == nil {
		o.Progress = noProgress{}
	}
	o.Diagnostics = &lockedWriter{w: o.Diagnostics}
}

type noProgress struct{}

func (noProgress) Step(int, int, string) {}
func (noProgress) Hide()                 {}

// lockedWriter lets several ranks write lines to one writer.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
