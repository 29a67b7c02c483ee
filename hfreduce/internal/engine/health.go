// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// lookEvery returns how long a rank that waits sleeps at most between two looks at the health of its links.
func lookEvery(bound time.Duration) time.Duration { return min(bound/4, time.Second/4) }

// lookAtLinks is called before each sleep. When it is time it asks the links whether their peers' hosts can be reached, and it
// returns for how long the rank may sleep: for timeout, 0 being without bound, or until the next look.
func (e *Engine) lookAtLinks(w *watch, timeout time.Duration) (time.Duration, error) {
	if len(e.probers) == 0 || e.cfg.Silence == 0 {
		return timeout, nil
	}
	now, every := time.Now(), lookEvery(e.cfg.Silence)
	if w.looked.IsZero() {
		w.looked = now
	}
	due := every - now.Sub(w.looked)
	if due <= 0 {
		w.looked, due = now, every
		for _, p := range e.probers {
			if err := p.Alive(e.cfg.Silence); err != nil {
				return 0, &LinkError{Rank: p.rank, Err: err}
			}
		}
	}
	if timeout > 0 && timeout < due {
		return timeout, nil
	}
	return due, nil
}

// prober is a link that is to be looked at, and the rank at its other end.
type prober struct {
	transport.Prober
	rank int
}
