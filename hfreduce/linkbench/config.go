// SPDX-License-Identifier: Apache-2.0

// Package linkbench measures the links between the nodes of a job, pair by pair, as perftest's ib_write_bw and ib_write_lat
// measure a pair of adapters: what the network gives to collectives, before these are blamed. It goes over the transport that
// carries the collectives' data (Options.Transport), by Comm.MeasureLink.
//
// The first rank of each node takes part; ranks on one node share memory and need no link. One pair is measured at a time, in
// all sizes over one link, so that the pairs do not share the network; all other ranks sleep meanwhile.
//
// # Figures
//
// GB/s are 10^9 bytes, Gbit/s 10^9 bits of payload in a second, headers not counted. In mode both they are the sum of the
// two directions, as ib_write_bw -b reports. The time is that of a message: all of them together by their number. In mode
// latency times are half the round trip, as ib_write_lat reports.
//
// Read on: run.go (from the configuration to the report), table.go and document.go (output). What exactly is timed is said
// in hfreduce/internal/probe.
package linkbench

import (
	"errors"
	"fmt"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// Pairs says which pairs of nodes are measured.
type Pairs uint8

// The choices of pairs.
const (
	Ring Pairs = iota // each node and the next, the last and the first
	All               // every node with every other
)

var pairsNames = [...]string{Ring: "ring", All: "all"}

// String returns the name.
func (p Pairs) String() string {
	if int(p) >= len(pairsNames) {
		return fmt.Sprintf("Pairs(%d)", uint8(p))
	}
	return pairsNames[p]
}

// ParsePairs reads a choice of pairs.
func ParsePairs(s string) (Pairs, error) {
	for i, name := range pairsNames {
		if name == s {
			return Pairs(i), nil
		}
	}
	return 0, fmt.Errorf("%q is no choice of pairs; use ring or all", s)
}

// ParseMode reads the name of a mode.
func ParseMode(s string) (hfreduce.LinkMode, error) {
	for m := hfreduce.LinkBandwidth; m <= hfreduce.LinkLatency; m++ {
		if m.String() == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("%q is no mode; use bandwidth, both or latency", s)
}

// Config says what Run measures. DefaultConfig returns the defaults; the name behind each field is the flag.
type Config struct {
	Mode               hfreduce.LinkMode
	Pairs              Pairs // --pairs
	MinBytes, MaxBytes int64 // -b, -e: first and last size of a message
	StepFactor         int64 // -f: multiplied to a size to get the next
	Window             int   // --window: messages in flight, for bandwidth
	Iters, Warmup      int   // -n, -w: messages of each size and direction, timed and before that
	Check              bool  // -c: verify the bytes of some messages afterwards

	Args []string // the command line, for the JSON document

	hooks hooks
}

// DefaultConfig returns the defaults of a mode: 8 bytes for latency, 64 KiB to 4 MiB for bandwidth.
func DefaultConfig(m hfreduce.LinkMode) Config {
	c := Config{Mode: m, MinBytes: 64 << 10, MaxBytes: 4 << 20, StepFactor: 4, Window: 8, Iters: 1000, Warmup: 100, Check: true}
	if m == hfreduce.LinkLatency {
		c.MinBytes, c.MaxBytes = 8, 8
	}
	return c
}

// Validate lists every fault of the configuration in one error. Each names the flag and says what to do.
func (c *Config) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(c.Mode > hfreduce.LinkLatency, "mode %v is not known; use bandwidth, both or latency", c.Mode)
	fault(int(c.Pairs) >= len(pairsNames), "--pairs %v is not known; use ring or all", c.Pairs)
	fault(c.MinBytes < 1 || c.MinBytes > hfreduce.MaxLinkBytes, "-b %d: give a size of 1 byte to 1G", c.MinBytes)
	fault(c.MaxBytes < 1 || c.MaxBytes > hfreduce.MaxLinkBytes, "-e %d: give a size of 1 byte to 1G", c.MaxBytes)
	fault(c.MinBytes > c.MaxBytes, "-b %d is above -e %d; give -b a size of at most -e", c.MinBytes, c.MaxBytes)
	fault(c.StepFactor < 2, "-f %d: give a factor of 2 or more", c.StepFactor)
	fault(c.Window < 1 || c.Window > hfreduce.MaxLinkWindow, "--window %d: give 1 to %d messages", c.Window, hfreduce.MaxLinkWindow)
	fault(c.Window > 0 && c.MaxBytes > hfreduce.MaxLinkMemory/int64(c.Window), "--window %d messages of -e %d bytes are more than 8G; give a smaller window or size", c.Window, c.MaxBytes)
	fault(c.Iters < 1 || c.Iters > hfreduce.MaxLinkIters, "-n %d: give 1 to %d iterations", c.Iters, hfreduce.MaxLinkIters)
	fault(c.Warmup < 0 || c.Warmup > hfreduce.MaxLinkIters, "-w %d: give 0 to %d warm-up iterations", c.Warmup, hfreduce.MaxLinkIters)
	return errors.Join(errs...)
}

// sizes lists the sizes of a valid configuration.
func (c *Config) sizes() (all []int) {
	for s := c.MinBytes; s <= c.MaxBytes; s *= c.StepFactor {
		all = append(all, int(s))
		if s > c.MaxBytes/c.StepFactor {
			break
		}
	}
	return all
}
