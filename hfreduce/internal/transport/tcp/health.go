// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"fmt"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
)

// Alive implements transport.Prober. While nothing is under way the kernel looks by itself (Transport.keep).
func (l *Link) Alive(bound time.Duration) error {
	if l.err != nil {
		return l.err
	}
	s, err := pulse.Look(l.fd)
	if err != nil {
		return nil // a kernel that does not tell; what it finds by itself must do
	}
	return l.judge(s, time.Now(), bound)
}

// judge takes in a look, and breaks the link if there was no answer for bound.
func (l *Link) judge(s pulse.State, now time.Time, bound time.Duration) error {
	if silent := l.monitor.Silent(s, now); silent >= bound {
		l.fail(fmt.Errorf("its host has acknowledged nothing of what rank %d sent for %v", l.self, silent.Round(100*time.Millisecond)))
	}
	return l.err
}
