// SPDX-License-Identifier: Apache-2.0

package kernelbench

import "time"

// slice is how long a sample takes at least, unless a single call takes longer.
const slice = time.Millisecond

// task is something to measure.
type task struct {
	run   func(times int)
	bytes int64 // traffic of one call
	warm  bool  // make a call before the timed ones
	times int   // calls of a sample
}

// stopwatch times tasks.
type stopwatch struct{ clock func() time.Duration }

// time returns how long some calls take.
func (s stopwatch) time(t *task, times int) time.Duration {
	start := s.clock()
	t.run(times)
	return s.clock() - start
}

// calibrate finds out how many calls fill a slice.
func (s stopwatch) calibrate(t *task) {
	const most = 1 << 24 // where the clock does not move
	for t.times = 1; t.times < most; {
		took := s.time(t, t.times)
		if took >= slice {
			return
		}
		// A tenth more than needed, and at most so much as to trust a short time with.
		more := int(float64(t.times)*1.1*float64(slice)/float64(max(took, 1))) + 1
		t.times = min(max(more, t.times+1), 16*t.times)
	}
}

// sample measures a task once, in GB/s.
func (s stopwatch) sample(t *task) float64 {
	if t.warm {
		t.run(1)
	}
	took := max(s.time(t, t.times), 1)
	return float64(t.bytes) * float64(t.times) / float64(took)
}
