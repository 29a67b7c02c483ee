// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"time"
)

// reportStart prints what a failure can be repeated with, before anything can fail.
func (s *soaker) reportStart() {
	s.out.Progress.Hide()
	fmt.Fprintf(s.out.Table, "# hfreduce soak: seed %d, %d ranks on %d nodes, buffers of up to %d bytes, for %v; --seed %[1]d repeats it\n",
		s.cfg.Seed, s.ranks, s.world.Nodes(), s.cfg.MaxBytes, s.cfg.Duration)
}

// reportEnd prints what the soak found. The columns are this rank's.
func (s *soaker) reportEnd() {
	s.out.Progress.Hide()
	t := s.out.Table
	fmt.Fprintf(t, "# %-14s%12s%16s%9s%9s%14s\n", "collective", "calls", "bytes", "errors", "wrong", "slowest (ms)")
	var total SoakCount
	for i, c := range s.summary.Collectives {
		writeCount(s, Collective(i).String(), c)
		total.Calls, total.Bytes = total.Calls+c.Calls, total.Bytes+c.Bytes
		total.Errors, total.Wrong = total.Errors+c.Errors, total.Wrong+c.Wrong
		total.Slowest = max(total.Slowest, c.Slowest)
	}
	writeCount(s, "all", total)
	verdict := "OK"
	if s.summary.Failed() {
		verdict = "FAILED"
	}
	fmt.Fprintf(t, "# %d of %d ranks were left after %v, %d communicators broke; wrong results: %d, amiss: %d %s\n",
		s.summary.Ranks, s.ranks, time.Since(s.begin).Round(time.Millisecond), s.summary.Breaks, s.summary.Wrong, s.summary.Amiss, verdict)
}

func writeCount(s *soaker, name string, c SoakCount) {
	fmt.Fprintf(s.out.Table, "  %-14s%12d%16d%9d%9d%14.3f\n", name, c.Calls, c.Bytes, c.Errors, c.Wrong, c.Slowest.Seconds()*1e3)
}
