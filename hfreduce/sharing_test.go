// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/bootstrap"
	"github.com/hfreduce/hfreduce/internal/cpus"
)

func TestSharing(t *testing.T) {
	on := func(machine string, process uint64, numbers ...int) bootstrap.Seat {
		return bootstrap.Seat{Machine: machine, Process: process, CPUs: cpus.Of(numbers...)}
	}
	for name, c := range map[string]struct {
		seats             []bootstrap.Seat
		ranks, processors int
		crowded           bool
	}{
		"alone":              {[]bootstrap.Seat{on("a", 1, 0, 1), on("b", 2, 0, 1)}, 1, 2, false},
		"unbound":            {[]bootstrap.Seat{on("a", 1, 0, 1), on("a", 2, 0, 1), on("a", 3, 0, 1)}, 3, 2, false},
		"bound apart":        {[]bootstrap.Seat{on("a", 1, 0), on("a", 2, 1)}, 1, 1, false},
		"bound in turn":      {[]bootstrap.Seat{on("a", 1, 0), on("a", 2, 1), on("a", 3, 0)}, 2, 1, false},
		"overlapping":        {[]bootstrap.Seat{on("a", 1, 0, 1), on("a", 2, 1, 2)}, 2, 3, false},
		"one process":        {[]bootstrap.Seat{on("a", 1, 0, 1), on("a", 1, 0, 1)}, 2, 2, true},
		"mine unknown":       {[]bootstrap.Seat{on("a", 1), on("a", 2, 3), on("b", 3, 3)}, 2, 1, false},
		"another's unknown":  {[]bootstrap.Seat{on("a", 1, 0), on("a", 2)}, 2, 1, false},
		"nobody's are known": {[]bootstrap.Seat{on("a", 1), on("a", 2)}, 2, 0, false},
	} {
		ranks, processors, crowded := sharing(c.seats, 0)
		if ranks != c.ranks || processors != c.processors || crowded != c.crowded {
			t.Errorf("%s: %d ranks on %d processors, crowded %t; want %d, %d, %t", name, ranks, processors, crowded, c.ranks, c.processors, c.crowded)
		}
	}
}
