// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"runtime"
	"sync/atomic"
	"testing"
)

func TestBackoffSteps(t *testing.T) {
	for _, p := range []Policy{
		{},
		{Spins: 7},
		{Yields: 3},
		{Spins: 5, Yields: 4, GoschedEvery: 2, YieldOS: true},
		DefaultPolicy(2, 4, false),
		DefaultPolicy(8, 2, true),
		LocalPolicy(2, 4),
		LocalPolicy(1000, 2),
	} {
		b := NewBackoff(p)
		for round := range 2 {
			for step := range p.Spins + p.Yields {
				if b.Idle() {
					t.Fatalf("%+v, round %d: sleep after %d steps", p, round, step)
				}
			}
			for range 3 {
				if !b.Idle() {
					t.Fatalf("%+v, round %d: no sleep after all steps", p, round)
				}
			}
			b.Reset()
		}
	}
}

func TestDefaultPolicyOversubscribed(t *testing.T) {
	own, shared := DefaultPolicy(4, 4, false), DefaultPolicy(5, 4, false)
	if !own.YieldOS || !shared.YieldOS {
		t.Errorf("yields to other processes: with a core for each rank %v, without %v", own.YieldOS, shared.YieldOS)
	}
	if shared.Spins >= own.Spins {
		t.Errorf("spins: with a core for each rank %d, without %d", own.Spins, shared.Spins)
	}
}

// Ranks that are goroutines share one P here: a rank that spins must let the rank run that it waits for.
func TestBackoffLetsGoroutinesRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, p := range []Policy{DefaultPolicy(1, 1, false), DefaultPolicy(8, 1, false), DefaultPolicy(8, 1, true), LocalPolicy(1, 1), LocalPolicy(8, 1)} {
		var flag atomic.Bool
		done := make(chan struct{})
		go func() { flag.Store(true); close(done) }()
		b := NewBackoff(p)
		for !flag.Load() {
			if b.Idle() {
				t.Errorf("%+v: would sleep before another goroutine had its turn", p)
				break
			}
		}
		<-done
	}
}

func TestPauseReturns(t *testing.T) {
	for _, n := range []int{-1, 0, 1, 2, 1000} {
		Pause(n)
	}
}

func TestBackoffAllocatesNothing(t *testing.T) {
	b := NewBackoff(DefaultPolicy(8, 2, false))
	if n := testing.AllocsPerRun(500, func() { b.Idle() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
