// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"fmt"
	"time"
)

// pace estimates how long a run has still to go.
type pace struct {
	done, total     int     // samples
	weight, weights float64 // of the samples done, and of all
	began           time.Duration
}

func newPace(groups []group, rounds int) (p pace) {
	for _, g := range groups {
		for _, s := range g.cases {
			p.total += rounds
			p.weights += float64(rounds) * weightOf(s)
		}
	}
	return p
}

// weightOf says how long a sample takes with its copies, roughly, in units of a byte of the working set.
func weightOf(s subject) float64 {
	const slices = 20 << 20 // two or three slices are as long as so many bytes
	if !hasStream(s.backend.String()) {
		return slices + 6*float64(s.size)
	}
	return slices + 2*float64(s.size)
}

// advance counts a sample.
func (p *pace) advance(s subject) {
	p.done++
	p.weight += weightOf(s)
}

// left returns a text on the time that is left, "" as long as it cannot be told.
func (p *pace) left(now time.Duration) string {
	if p.done == 0 {
		p.began = now
	}
	const enough = time.Second // to go by
	spent := now - p.began
	if spent < enough {
		return ""
	}
	seconds := spent.Seconds() * (p.weights/p.weight - 1)
	if seconds < 60 {
		return fmt.Sprintf(", about %.0f s left", seconds)
	}
	return fmt.Sprintf(", about %.0f min left", seconds/60)
}
