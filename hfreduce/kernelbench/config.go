// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// The limits of a configuration.
const (
	MaxSources = 32             // of one case; the products of so many stay ordinary numbers in every type
	MinSize    = int64(4 << 10) // of a working set
	MaxSize    = int64(1 << 40)
)

// The choices of Config.CPU other than a processor's number.
const (
	LastCPU = -1 // the last processor that the process may use: system and interrupts prefer the first
	AnyCPU  = -2 // not pinned
)

// Config says what Run measures: every combination of the lists. DefaultConfig returns the defaults; the name behind each
// field is the flag.
type Config struct {
	Types    []hfreduce.DataType // --dtype
	Ops      []Op                // --op
	Sources  []int               // --sources
	Sizes    []int64             // --size: working sets in bytes
	Backends []string            // --backend, by name
	Variants []Variant           // --out; wide outputs are left out for types that have none
	Stores   Stores              // --stores
	Rounds   int                 // --rounds: samples of each case
	Seed     uint64              // --seed: of the data and the order
	CPU      int                 // --bind

	Args []string // the command line, for the JSON document

	hooks hooks
}

// hooks are what tests replace.
type hooks struct {
	clock  func() time.Duration // monotonic
	now    func() time.Time     // time of day
	reduce func(s kernel.Spec, b kernel.Backend, dst, dst2 []byte, srcs [][]byte, scales []float64)
}

// defaults fills in the real things.
func (h *hooks) defaults() {
	if h.clock == nil {
		start := time.Now()
		h.clock = func() time.Duration { return time.Since(start) }
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.reduce == nil {
		h.reduce = kernel.Spec.ReduceOn
	}
}

// DefaultConfig returns the defaults: the sum of every data type on every backend, in the second-level cache of most
// machines, in the third and beyond.
func DefaultConfig() Config {
	return Config{
		Types: hfreduce.DataTypes(), Ops: []Op{Sum}, Sources: []int{2, 4, 8}, Sizes: []int64{256 << 10, 8 << 20, 256 << 20},
		Backends: Backends(), Variants: []Variant{PlainOut}, Stores: AutoStores, Rounds: 5, Seed: 1, CPU: LastCPU,
	}
}

// Validate lists every fault of the configuration in one error. Each names the flag and says what to do.
func (c *Config) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, d := range c.Types {
		fault(!d.Valid(), "--dtype %v is not known; use %v", d, hfreduce.DataTypes())
	}
	for _, o := range c.Ops {
		fault(int(o) >= len(opNames), "--op %v is not known; use %v", o, Ops())
	}
	for _, n := range c.Sources {
		fault(n < 1 || n > MaxSources, "--sources %d: give 1 to %d", n, MaxSources)
	}
	for _, size := range c.Sizes {
		fault(size < MinSize || size > MaxSize, "--size %d: give a working set of %d (4K) to %d bytes", size, MinSize, MaxSize)
	}
	for _, name := range c.Backends {
		fault(!slices.Contains(Backends(), name), "--backend %s is not known or cannot run on this machine; use %v", name, Backends())
	}
	for _, v := range c.Variants {
		fault(int(v) >= len(variantNames), "--out %v is not known; use %v", v, Variants())
	}
	fault(int(c.Stores) >= len(storesNames), "--stores %v is not known; use plain, stream, both or auto", c.Stores)
	fault(c.Rounds < 1 || c.Rounds > maxRounds, "--rounds %d: give 1 to %d", c.Rounds, maxRounds)
	fault(c.CPU < AnyCPU, "--bind %d: give the number of a processor, last or none", c.CPU)
	if _, err := kernel.Selected(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 && len(plan(c)) == 0 {
		errs = append(errs, c.nothing())
	}
	return errors.Join(errs...)
}

const maxRounds = 100000

// nothing says why a configuration has no case.
func (c *Config) nothing() error {
	switch {
	case len(c.Types) == 0, len(c.Ops) == 0, len(c.Sources) == 0, len(c.Sizes) == 0, len(c.Backends) == 0, len(c.Variants) == 0:
		return errors.New("nothing is left to measure; name at least one of --dtype, --op, --sources, --size, --backend and --out each")
	case c.Stores == StreamStores && !slices.ContainsFunc(c.Backends, hasStream):
		return fmt.Errorf("--stores stream: backend %s has plain stores only; use --stores plain, or another --backend of %v", kernel.Generic, Backends())
	}
	return fmt.Errorf("--out wide: %v have no wider output; use --dtype half, bfloat16, f8e4m3 or f8e5m2, or another --out", c.Types)
}

// hasStream reports whether a backend has non-temporal stores.
func hasStream(backend string) bool { return backend != kernel.Generic.String() }
