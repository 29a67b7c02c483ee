// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the processor time that this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// steadyUse returns the least processor time that this process uses within one of some spans of length watched: what the
// runtime has to clean up after earlier tests is not in all of them, what waiting costs is.
func steadyUse(t *testing.T, watched, enough time.Duration) (least time.Duration) {
	t.Helper()
	for try := range 8 {
		before := cpuTime(t)
		time.Sleep(watched)
		if used := cpuTime(t) - before; try == 0 || used < least {
			least = used
		}
		if least <= enough {
			break
		}
	}
	return least
}

// TestWaitingUsesNoProcessor measures processor time, not time: communicators that nobody uses must cost nothing, and ranks
// that wait for one that does not come must have gone to sleep after a while.
func TestWaitingUsesNoProcessor(t *testing.T) {
	const watched = 500 * time.Millisecond
	for name, nodeOf := range map[string][]int{"one node": {0, 0, 0}, "two nodes": {0, 1, 1}} {
		t.Run(name, func(t *testing.T) {
			comms := initWorld(t, nodeOf, "127.0.0.1", Options{})
			each(t, comms, func(c *Comm) error { return c.Barrier(context.Background()) })
			if used := steadyUse(t, watched, watched/100); used > watched/100 {
				t.Errorf("idle: %v of processor time in %v, want at most 1%%", used, watched)
			}
			for _, count := range []int{1, 100_000} { // of the short way and of the pipeline
				ended := make(chan error, 2)
				for _, c := range comms[1:] {
					x, before := make([]float32, count), c.stats.started.Load()
					go func() { ended <- c.AllReduce(context.Background(), Host(x), Host(x), Sum) }()
					for c.stats.started.Load() == before {
						runtime.Gosched()
					}
				}
				limit := 2 * watched * 5 / 100
				used := steadyUse(t, watched, limit)
				x := make([]float32, count)
				err := comms[0].AllReduce(context.Background(), Host(x), Host(x), Sum)
				if err := errors.Join(err, <-ended, <-ended); err != nil {
					t.Fatal(err)
				}
				if used > limit {
					t.Errorf("two ranks waiting for a third, %d elements: %v of processor time in %v, want at most 5%% each", count, used, watched)
				}
				t.Logf("%d elements: %v of processor time in %v", count, used, watched)
			}
		})
	}
}
