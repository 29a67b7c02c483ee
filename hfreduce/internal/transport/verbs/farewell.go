// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"time"

	"golang.org/x/sys/unix"
)

// farewellTimeout bounds how long a Close waits for the peer's device.
const farewellTimeout = time.Second

// farewell tells the peer over every lane that nothing more comes, and waits until its device has that, and so everything
// before it: a queue pair that is destroyed sends no more. That takes one round trip; a peer that closed too, or has died,
// is not waited for.
func (l *Link) farewell() {
	for i := range l.lanes {
		n := &l.lanes[i]
		if !n.room(1, 0) {
			return
		}
		n.addEntry(n.entry(header{}), headerBytes, l.entryOf(len(l.areas)), bye, true, true)
	}
	l.waitFor(time.Now().Add(farewellTimeout), func() bool {
		for i := range l.lanes {
			if n := &l.lanes[i]; n.reaped < n.posted && !n.left {
				return false
			}
		}
		return true
	})
}

// waitFor steps until the condition holds, and reports whether it does. It gives up when the deadline has passed, the link
// breaks, or the connection beside it ends. It blocks its thread, not longer than a round trip as a rule.
func (l *Link) waitFor(deadline time.Time, done func() bool) bool {
	fds := []unix.PollFd{{Fd: int32(l.side.fd), Events: unix.POLLIN}}
	for i := range l.lanes {
		fds = append(fds, unix.PollFd{Fd: int32(l.lanes[i].channel.FD()), Events: unix.POLLIN})
	}
	for {
		l.step()
		if done() {
			return true
		}
		if l.cause != nil {
			return false
		}
		for i := range l.lanes {
			if l.cause = l.lanes[i].sleep(); l.cause != nil {
				return false
			}
		}
		if l.step() > 0 {
			continue
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		// The errors are EINTR and such that look again can't make worse.
		_, _ = unix.Poll(fds, int(min(left, pollSlice)/time.Millisecond)+1)
		if fds[0].Revents != 0 && l.meeting {
			fds[0].Fd = -1 // a step ahead: it would end every sleep
		}
		if l.lookAside(); l.cause != nil && !done() {
			return false
		}
	}
}

// pollSlice is how long waitFor sleeps at most, so that it sees a context that ends.
const pollSlice = 20 * time.Millisecond
