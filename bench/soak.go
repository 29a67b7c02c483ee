// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// This file, with soakplan.go (what is done), soakrank.go (one rank doing it), soakflight.go (its calls) and soakreport.go, runs random collectives for
// a long time and verifies each. Everything that is random follows from one seed, on all ranks alike.

// SoakConfig says what Soak does. It is the same on all ranks.
type SoakConfig struct {
	Duration time.Duration
	Seed     uint64
	MaxBytes int64 // of a buffer
	Threads  int   // ranks that a process runs
	// Faults are injected: communicators are expected to break. Then every rank must get an error that wraps one of
	// hfreduce's, and those that are left go on.
	Faults bool
	// Bound is how long a call may take until it ends, with its result or an error.
	Bound time.Duration

	bursts int // not 0: tests go on with a communicator for so many bursts, whatever the time
	hooks  hooks
}

// Bounds of SoakConfig.
const (
	minSoakBytes = 1 << 10
	maxSoakBytes = 1 << 30
)

// Validate lists every fault of the configuration in one error. Each names the flag and says what to do.
func (c *SoakConfig) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(c.Duration <= 0, "--duration %v is not positive; give a time such as 60s", c.Duration)
	fault(c.MaxBytes < minSoakBytes || c.MaxBytes > maxSoakBytes, "-e %d: give %d to %d bytes", c.MaxBytes, minSoakBytes, maxSoakBytes)
	fault(c.Threads < 1, "-t %d: give at least 1 thread", c.Threads)
	fault(c.Bound <= 0, "--bound %v is not positive; give a time such as 15s", c.Bound)
	return errors.Join(errs...)
}

// SoakSummary is what a soak found: this rank's own counts by collective, and of the ranks that are left, as far as they
// could still tell each other, what went wrong.
type SoakSummary struct {
	Collectives []SoakCount // in the order of Collectives
	Ranks       int         // that were left at the end
	Breaks      int         // communicators that broke
	// Wrong counts the verifications that found wrong elements, changed guard bytes or sources.
	Wrong int
	// Amiss counts calls that failed without a fault, with an error that wraps none of hfreduce's, or later than
	// SoakConfig.Bound; and ranks that could not go on after a fault.
	Amiss int
}

// SoakCount is what happened to the calls of one collective.
type SoakCount struct {
	Calls, Bytes, Errors, Wrong int64
	Slowest                     time.Duration
}

// Failed reports whether the run must count as failed.
func (s SoakSummary) Failed() bool { return s.Wrong > 0 || s.Amiss > 0 }

// Soak runs random collectives on this process's ranks, which are cfg.Threads in number and consecutive. Rank 0 of those
// that are left reports. It closes the communicators, each as soon as its rank is through. An error means that a rank could
// not be run to the end.
func Soak(ctx context.Context, cfg SoakConfig, comms []*hfreduce.Comm, out Output) (SoakSummary, error) {
	if err := cfg.Validate(); err != nil {
		return SoakSummary{}, fmt.Errorf("bench soak: %w: %w", hfreduce.ErrInvalid, err)
	}
	if len(comms) == 0 {
		return SoakSummary{}, fmt.Errorf("bench soak: no communicator given: %w", hfreduce.ErrInvalid)
	}
	if cfg.hooks.period == 0 {
		cfg.hooks.period = soakPeriod
	}
	cfg.hooks.defaults()
	out.defaults()
	begin := time.Now()
	stuck := make(chan error, len(comms))
	ranks, errs := make([]*soaker, len(comms)), make([]error, len(comms))
	var wg sync.WaitGroup
	for i := range comms {
		ranks[i] = newSoaker(&cfg, comms[i], out, begin, stuck)
		wg.Go(func() { errs[i] = ranks[i].run(ctx) })
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	select {
	case <-ended:
	case err := <-stuck: // its rank cannot be waited for
		return SoakSummary{Amiss: 1}, err
	}
	var sum SoakSummary
	for _, r := range ranks {
		sum.add(r.summary)
	}
	return sum, firstCause(errs)
}

// add takes in what another rank of the process found. What the first one counts by collective stands for all.
func (s *SoakSummary) add(o SoakSummary) {
	if s.Collectives == nil {
		*s = o
		return
	}
	s.Wrong, s.Amiss = max(s.Wrong, o.Wrong), max(s.Amiss, o.Amiss)
	s.Ranks, s.Breaks = max(s.Ranks, o.Ranks), max(s.Breaks, o.Breaks)
}

// injected reports whether an error is what a call returns after a fault.
func injected(err error) bool {
	for _, sentinel := range []error{hfreduce.ErrPeerLost, hfreduce.ErrTimeout, hfreduce.ErrAborted, hfreduce.ErrMismatch, hfreduce.ErrCorrupt} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}
