// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// soak runs a soak on ranks of this process and closes them.
func soak(t *testing.T, nodeOf []int, cfg SoakConfig, o hfreduce.Options) (SoakSummary, string, error) {
	t.Helper()
	if o.CUDA = hfreduce.CUDAOff; o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	comms, err := hfreduce.NewLocal(nodeOf, o)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Duration, cfg.Threads, cfg.Bound = time.Hour, len(comms), o.Timeout+20*time.Second
	var table, diagnostics bytes.Buffer
	summary, err := Soak(t.Context(), cfg, comms, Output{Table: &table, Diagnostics: &diagnostics})
	return summary, table.String() + diagnostics.String(), err
}

func TestSoak(t *testing.T) {
	for name, nodeOf := range map[string][]int{"1x1": {0}, "1x3": {0, 0, 0}, "3x1": {0, 1, 2}, "uneven": {0, 0, 1, 2, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := SoakConfig{Seed: 5, MaxBytes: 64 << 10, bursts: 80}
			s, said, err := soak(t, nodeOf, cfg, hfreduce.Options{ChunkBytes: 4096, Slots: 4})
			if err != nil || s.Failed() || s.Ranks != len(nodeOf) || s.Breaks != 0 {
				t.Fatalf("%+v, %v\n%s", s, err, said)
			}
			calls := int64(0)
			for _, c := range s.Collectives {
				calls += c.Calls
			}
			if calls < 80 || !strings.HasPrefix(said, "# hfreduce soak: seed 5, ") || !strings.Contains(said, "wrong results: 0, amiss: 0 OK\n") {
				t.Errorf("%d calls:\n%s", calls, said)
			}
		})
	}
}

// TestSoakFindsWrongResults spoils results of one rank, seldom: all ranks stop, and it is told where.
func TestSoakFindsWrongResults(t *testing.T) {
	var left atomic.Int64
	left.Store(100)
	cfg := SoakConfig{Seed: 1, MaxBytes: 4096}
	cfg.hooks.corrupt = func(_ Collective, rank int, _ bool, w window) {
		if b := w.payload(); rank == 1 && len(b) > 0 && left.Add(-1) == 0 {
			b[len(b)/2] ^= 0x10
		}
	}
	s, said, err := soak(t, []int{0, 0, 1}, cfg, hfreduce.Options{})
	if err != nil || s.Wrong != 1 || !s.Failed() {
		t.Errorf("%+v, %v", s, err)
	}
	if !strings.Contains(said, "hfreduce bench soak: rank 1, seed 1, communicator 0, burst ") || !strings.Contains(said, "FAILED") {
		t.Errorf("it is not told where:\n%s", said)
	}
}

// TestSoakFaults: faults that only hold are survived; others end with errors that are right on every rank.
func TestSoakFaults(t *testing.T) {
	for fault, breaks := range map[string]bool{
		"delay=200us p=0.2; pause=300us p=0.1 stage=reduce": false,
		"reset rank=0 after=40":                             true,
		"half-close rank=1 after=30":                        true,
		"abort rank=1 call=30 stage=output":                 true,
		"partial=64 rank=1 after=20":                        true,
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			cfg := SoakConfig{Seed: 9, MaxBytes: 16 << 10, Faults: true, bursts: 80}
			o := hfreduce.Options{ChunkBytes: 4096, Fault: fault}
			if strings.HasPrefix(fault, "half-close") {
				o.Timeout = time.Second // nothing else finds it
			}
			s, said, err := soak(t, []int{0, 0, 1, 1}, cfg, o)
			if err != nil || s.Failed() || s.Breaks > 0 != breaks || s.Ranks != 4 {
				t.Errorf("%+v, %v\n%s", s, err, said)
			}
		})
	}
}

// TestSoakFindsCorruption: bits that are flipped on the way fail the soak, also in what the ranks tell each other.
func TestSoakFindsCorruption(t *testing.T) {
	for fault, want := range map[string]string{
		"corrupt after=40 p=0.2":          "wrong: ",
		"corrupt=16 rank=0 seq=1 times=1": "by which the ranks agree",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			cfg := SoakConfig{Seed: 3, MaxBytes: 16 << 10, Faults: true}
			s, said, err := soak(t, []int{0, 1, 2}, cfg, hfreduce.Options{ChunkBytes: 4096, Fault: fault})
			if err != nil || s.Wrong == 0 || !strings.Contains(said, want) {
				t.Errorf("%+v, %v\n%s", s, err, said)
			}
		})
	}
}

// TestSoakWithoutFaults: an error that nobody expects fails the soak.
func TestSoakWithoutFaults(t *testing.T) {
	cfg := SoakConfig{Seed: 9, MaxBytes: 16 << 10}
	s, said, err := soak(t, []int{0, 1}, cfg, hfreduce.Options{Fault: "reset after=40"})
	if !errors.Is(err, hfreduce.ErrPeerLost) || !s.Failed() || !strings.Contains(err.Error(), "seed 9, communicator 0, burst ") {
		t.Errorf("%+v, %v\n%s", s, err, said)
	}
}

// TestSoakTellsLateErrors: an error that comes after the bound is amiss.
func TestSoakTellsLateErrors(t *testing.T) {
	comms, err := hfreduce.NewLocal([]int{0, 1}, hfreduce.Options{CUDA: hfreduce.CUDAOff, Timeout: 500 * time.Millisecond, Fault: "drop after=10"})
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cfg := SoakConfig{Duration: time.Hour, Seed: 2, MaxBytes: 4096, Faults: true, Threads: 2, Bound: 100 * time.Millisecond}
	s, err := Soak(t.Context(), cfg, comms, Output{Diagnostics: &said})
	if s.Amiss == 0 || !strings.Contains(said.String(), "more than 100ms") {
		t.Errorf("%+v, %v\n%s", s, err, said.String())
	}
}

func TestSoakConfigIsChecked(t *testing.T) {
	good := SoakConfig{Duration: time.Second, MaxBytes: 4096, Threads: 1, Bound: time.Second}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*SoakConfig){
		"--duration 0s is not positive": func(c *SoakConfig) { c.Duration = 0 },
		"-e 1: give 1024 to":            func(c *SoakConfig) { c.MaxBytes = 1 },
		"-t 0: give at least 1":         func(c *SoakConfig) { c.Threads = 0 },
		"--bound -1s is not positive":   func(c *SoakConfig) { c.Bound = -time.Second },
	} {
		bad := good
		change(&bad)
		if _, err := Soak(t.Context(), bad, nil, Output{}); !errors.Is(err, hfreduce.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := Soak(t.Context(), good, nil, Output{}); !errors.Is(err, hfreduce.ErrInvalid) {
		t.Errorf("without ranks: %v", err)
	}
}

// TestSoakPlan: the plan follows from the seed, has everything that there is, and stays within its bounds.
func TestSoakPlan(t *testing.T) {
	const ranks, most, bursts = 3, 1 << 16, 3000
	draw := func(seed uint64, epoch int) (all []burst) {
		p := newSoakPlan(seed, epoch, ranks, most)
		for n := range bursts {
			all = append(all, p.burst(n))
		}
		return all
	}
	plan := draw(4, 1)
	if !reflect.DeepEqual(plan, draw(4, 1)) {
		t.Error("not the same with the same seed")
	}
	if reflect.DeepEqual(plan[:5], draw(5, 1)[:5]) || reflect.DeepEqual(plan[:5], draw(4, 2)[:5]) {
		t.Error("the same with another seed, or on another communicator")
	}
	seen := map[string]bool{}
	for _, b := range plan {
		seen["pause"] = seen["pause"] || b.pause > 0
		seen["async"] = seen["async"] || b.async && len(b.calls) == maxBurst
		seen["split"] = seen["split"] || b.split != nil && b.split.without >= 0
		for _, c := range b.calls {
			s := c.shape(ranks)
			for _, n := range []int64{s.send, s.recv} {
				if n < 0 || n*int64(c.test(ranks).elem()) > most {
					t.Fatalf("%+v moves %d elements", c, n)
				}
			}
			if r := c.test(2).root; c.collective.rooted() && (r < 0 || r > 1) {
				t.Fatalf("root %d of 2", r)
			}
			for what, is := range map[string]bool{
				c.collective.String(): true, c.dtype.String(): true, c.op.String(): true, "in place": c.inPlace, "registered": c.registered,
				"renewed": c.renew, "group": c.group, "empty": c.count == 0, "one": c.count == 1, "odd": c.count > 1000 && c.count&1 == 1,
				"large": s.send*int64(c.dtype.Size()) > most/2, "not aligned": c.unalign > 0,
			} {
				seen[what] = seen[what] || is
			}
		}
	}
	for what, is := range seen {
		if !is {
			t.Errorf("there is no case of: %s", what)
		}
	}
	if want := 12 + len(Collectives()) + len(hfreduce.DataTypes()) + len(Ops()) + 1; len(seen) != want {
		t.Errorf("%d cases, want %d", len(seen), want)
	}
}

// TestSoakSplit: the groups of a split have every rank but one at most, and in the order that is asked for.
func TestSoakSplit(t *testing.T) {
	s := soakSplit{divide: 2, modulo: 2, without: 3, backwards: true}
	var colors, keys []int
	for rank := range 6 {
		color, key := s.place(rank)
		colors, keys = append(colors, color), append(keys, key)
	}
	if !slices.Equal(colors, []int{0, 0, 1, -1, 0, 0}) || !slices.Equal(keys, []int{0, -1, -2, -3, -4, -5}) {
		t.Errorf("colors %v, keys %v", colors, keys)
	}
}
