// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"net"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
)

// tune makes the kernel watch a control connection while nothing is under way. Where an option is refused, the connection is
// merely slower to notice a vanished host.
func tune(conn net.Conn, bound time.Duration) {
	_ = pulse.Do(conn, func(fd int) error { return pulse.Keep(fd, bound) })
}

// heartbeat looks at control connections on which something is under way, until done is closed. wires returns them.
func heartbeat(bound time.Duration, done <-chan struct{}, wires func() []*wire) {
	ticker := time.NewTicker(pulse.Interval(bound))
	defer ticker.Stop()
	monitors := map[*wire]*pulse.Monitor{}
	for {
		select {
		case <-done:
			return
		case now := <-ticker.C:
			current := make(map[*wire]*pulse.Monitor, len(monitors))
			for _, w := range wires() {
				m := monitors[w]
				if m == nil {
					m = &pulse.Monitor{}
				}
				current[w] = m
				w.look(m, now, bound)
			}
			monitors = current
		}
	}
}

// look ends the connection if its host has not answered for bound. What is no TCP connection has no host.
func (w *wire) look(m *pulse.Monitor, now time.Time, bound time.Duration) {
	var s pulse.State
	err := pulse.Do(w.conn, func(fd int) (err error) {
		s, err = pulse.Look(fd)
		return err
	})
	if err != nil { // closed meanwhile
		return
	}
	if silent := m.Silent(s, now); silent >= bound {
		w.expire(fmt.Errorf("its host has acknowledged nothing for %v", silent.Round(100*time.Millisecond)))
	}
}
