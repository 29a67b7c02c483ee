// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// alarm rings the owner's bell when something is due.
type alarm struct {
	bell  wait.Bell
	timer *time.Timer
	next  time.Time // when it goes off; zero: not set

	mu     sync.Mutex // between a ring and the end of the link, after which the bell may go
	closed bool
}

// set sets the alarm for the head of the queue.
func (a *alarm) set(h *held) {
	if h != nil && !h.forever {
		a.at(h.due)
	}
}

// at sets the alarm. One that goes off earlier stays: the owner then sets it again.
func (a *alarm) at(t time.Time) {
	now := time.Now()
	if !a.next.IsZero() && now.Before(a.next) && !t.Before(a.next) {
		return
	}
	a.next = t
	if a.timer == nil {
		a.timer = time.AfterFunc(t.Sub(now), a.ring)
		return
	}
	a.timer.Reset(t.Sub(now))
}

func (a *alarm) ring() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.bell.Ring()
	}
}

func (a *alarm) close() {
	if a.timer != nil {
		a.timer.Stop()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
}
