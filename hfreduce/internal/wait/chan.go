// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"sync/atomic"
	"time"
)

// chanBell parks its owner on a channel: the Go scheduler runs other goroutines on the thread meanwhile, so thousands
// of ranks may sleep in one process.
type chanBell struct {
	armed atomic.Uint32
	token chan struct{} // capacity one: full means that a ring is remembered
	timer *time.Timer   // owner's, made by the first Sleep that has a timeout
}

// NewChan returns a bell for an owner whose ringers are all in this process. It cannot watch descriptors. It works
// inside a testing/synctest bubble if it was made there; a sleeping owner then counts as durably blocked.
func NewChan() Bell { return &chanBell{token: make(chan struct{}, 1)} }

func (b *chanBell) Ring() {
	if b.armed.Load() == 0 {
		return
	}
	select {
	case b.token <- struct{}{}:
	default: // somebody rang already and the owner hasn't run yet
	}
}

// Arm throws an old token away first: it is of a ringer that saw an earlier Arm, so its condition is older than the look
// that the owner takes next.
func (b *chanBell) Arm() {
	select {
	case <-b.token:
	default:
	}
	b.armed.Store(1)
}

func (b *chanBell) Disarm() { b.armed.Store(0) }

func (b *chanBell) Armed() bool { return b.armed.Load() != 0 }

func (b *chanBell) Sleep(timeout time.Duration) bool {
	if b.armed.Load() == 0 {
		return true
	}
	defer b.armed.Store(0)
	if timeout <= 0 {
		<-b.token
		return true
	}
	if b.timer == nil {
		b.timer = time.NewTimer(timeout)
	} else {
		b.timer.Reset(timeout)
	}
	select {
	case <-b.token:
		b.timer.Stop()
		return true
	case <-b.timer.C:
		return false
	}
}

func (b *chanBell) Watch(int, bool, bool) error { return ErrNotSupported }

func (b *chanBell) Close() error {
	b.armed.Store(0)
	return nil
}
