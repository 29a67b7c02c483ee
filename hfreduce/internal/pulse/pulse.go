// SPDX-License-Identifier: Apache-2.0

// Package pulse tells whether the host at the other end of a TCP connection can still be reached, from what the kernel knows.
//
// Nothing is asked of the process there. A kernel answers keepalive probes, takes data in and answers probes of a closed
// window also for a process that is stopped, in a debugger or busy; only a host that is gone, or a path that is cut, is
// silent. Two watches together see every connection, whatever it is doing:
//
//   - While nothing is under way the kernel probes, and ends the connection (Keep).
//   - While something is under way it does not, and would go on retransmitting for a quarter of an hour. Then the owner
//     looks from time to time (Look), and a Monitor says for how long the kernel has been asking in vain.
//
// TCP_USER_TIMEOUT would do the second, too, but also ends the connection to a host that answers and has no room, because
// its process does not read. So it is only for what is said before a connection is used (Expect).
package pulse

import "time"

// State is what the kernel tells of a connection.
type State struct {
	Unacked     uint32        // segments that were sent and not acknowledged
	Unsent      uint32        // bytes that wait for a window
	Retransmits uint8         // timeouts of the oldest segment, in a row
	Probes      uint8         // of a closed window or an idle connection, in a row without an answer
	Acked       uint64        // bytes that were acknowledged since the beginning
	Heard       time.Duration // since the latest acknowledgement, also one of nothing new
}

// asking reports whether the kernel has asked more than once for something that was not answered so far. A window that is
// closed is no such thing as long as its probes are answered.
func (s *State) asking() bool {
	if s.Unacked > 0 {
		return s.Retransmits > 0
	}
	return s.Unsent > 0 && s.Probes > 0
}

// Monitor follows one connection over several looks. The zero value has seen nothing.
type Monitor struct {
	asking bool
	acked  uint64
	since  time.Time // when it was first seen asking, with nothing heard after that
}

// Silent takes in a look and returns for how long the kernel has been asking in vain, zero if it is not. The time counts from
// the first look that finds it asking: a break is never thought longer than it is, and at most an interval between two looks
// and one retransmission timeout shorter.
func (m *Monitor) Silent(s State, now time.Time) time.Duration {
	answered := s.Acked != m.acked || now.Add(-s.Heard).After(m.since)
	if !s.asking() || !m.asking || answered {
		m.asking, m.acked, m.since = s.asking(), s.Acked, now
		return 0
	}
	return now.Sub(m.since)
}

// Interval returns how long to wait between two looks for a bound on the silence.
func Interval(bound time.Duration) time.Duration { return min(bound/4, time.Second/4) }

// probing says how an idle connection is probed so that its end is known within a bound. The kernel counts in seconds.
type probing struct{ idle, interval, count int }

// probes probes soon, and at least twice, so that one lost packet does no harm: of a bound of two seconds that makes three.
func probes(bound time.Duration) probing {
	seconds := int((bound + time.Second - 1) / time.Second)
	p := probing{idle: max(1, seconds/4), interval: max(1, seconds/8)}
	p.count = max(2, (seconds-p.idle)/p.interval)
	return p
}

// lasts returns how long the kernel probes before it gives up.
func (p probing) lasts() time.Duration { return time.Duration(p.idle+p.count*p.interval) * time.Second }

// longest returns the longest pause between two retransmissions, or probes of a closed window, in milliseconds within what the
// kernel allows: a path that comes back is used soon, and a closed window does not hide a dead host for minutes.
func longest(bound time.Duration) int {
	return int(min(max(bound/4, time.Second), 120*time.Second) / time.Millisecond)
}
