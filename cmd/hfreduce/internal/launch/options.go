// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hfreduce/hfreduce/internal/cpus"
)

// Options describe a job.
type Options struct {
	Ranks   int      // number of processes
	Nodes   int      // number of virtual nodes, at most Ranks; 1: all ranks share memory
	Command []string // program and arguments
	Env     []string // environment that the ranks' variables are added to, "NAME=value"

	// Bind says how ranks are bound to processors; "": they are not.
	Bind cpus.Binding
	// Output says how the ranks' output reaches Stdout and Stderr.
	Output         Output
	Stdout, Stderr io.Writer
	// Explained reports whether ranks that fail with this exit code say why themselves and end together: nothing more is
	// said, and the others get time to end before they are made to. nil: no code is like that.
	Explained func(code int) bool
	// Dispensable reports whether a rank that ends with this exit code is no failure as long as another one ends well: the
	// others are left alone. Once one has ended well, those that do not end within Lag are made to. nil: no code is like that.
	Dispensable func(code int) bool
	Lag         time.Duration
	// Grace is how long ranks may take to end after SIGTERM before they are killed.
	Grace time.Duration
	// Signals are passed on to the ranks. The channel may be nil.
	Signals <-chan Signal
}

// Output says how output of ranks is passed on.
type Output int

// The ways of passing output on.
const (
	Lines    Output = iota // whole lines at a time
	Prefixed               // whole lines that begin with the rank: "[3] "
	Direct                 // ranks write to Stdout and Stderr themselves, which must be files
)

// maxRanks is far above what one machine can run.
const maxRanks = 4096

func (o *Options) binding() cpus.Binding { return cmp.Or(o.Bind, cpus.None) }

// Validate lists every fault in one error.
func (o *Options) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(o.Ranks < 1 || o.Ranks > maxRanks, "-np %d: give 1 to %d ranks", o.Ranks, maxRanks)
	fault(o.Nodes < 1, "--nodes %d: give at least 1 node", o.Nodes)
	fault(o.Nodes > o.Ranks && o.Ranks > 0, "--nodes %d is more than the %d ranks; every node needs a rank", o.Nodes, o.Ranks)
	fault(len(o.Command) == 0, "no program to run; give it after --, as in: hfreduce launch -n 4 -- ./train")
	if _, err := cpus.ParseBinding(string(o.binding())); err != nil {
		errs = append(errs, err)
	}
	fault(o.Grace < 0, "--grace %v is negative", o.Grace)
	fault(o.Lag < 0, "a lag of %v is negative", o.Lag)
	return errors.Join(errs...)
}
