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

// heartbeat looks at control connections on which something is under way, until done is closed. wires appends them to a slice.
func heartbeat(bound time.Duration, done <-chan struct{}, wires func([]*wire) []*wire) {
	ticker := time.NewTicker(pulse.Interval(bound))
	defer ticker.Stop()
	var all []*wire
	for {
		select {
		case <-done:
			return
		case now := <-ticker.C:
			all = wires(all[:0])
			for _, w := range all {
				w.look(now, bound)
			}
			clear(all) // not to keep what is gone
		}
	}
}

// look ends the connection if its host has not answered for bound.
func (w *wire) look(now time.Time, bound time.Duration) {
	if w.gauge == nil {
		return
	}
	if silent := w.gauge.Silent(now); silent >= bound {
		w.expire(fmt.Errorf("its host has acknowledged nothing for %v", silent.Round(100*time.Millisecond)))
	}
}
