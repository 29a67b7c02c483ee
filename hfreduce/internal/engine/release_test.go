// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// TestReleaseWaitsForTheNode: the device of a rank that has broken may not fill slots while another rank of its node may still
// send from them to another node, where nobody sees that they have been overwritten.
func TestReleaseWaitsForTheNode(t *testing.T) {
	w := newStepped(t, []int{0, 0, 1, 1}, 4, 8192, 1024, true)
	a, b := w.engines[0], w.engines[1]
	w.begin(rand.New(rand.NewPCG(1, 1)), schedule.Broadcast, 20_000, 0)
	const far = 1 << 20
	b.maySend(true)
	a.Break(errors.New("enough"))
	a.ReleaseDevice()
	if !a.device.reached(Result, far) || a.device.reached(Open, far) {
		t.Fatalf("released: drains %t, fills %t; want drains only", a.device.reached(Result, far), a.device.reached(Open, far))
	}
	severed := make(chan error, 1)
	go func() { severed <- a.Sever(time.Minute) }()
	select {
	case <-severed:
		t.Fatal("the device may fill slots that rank 1 may send from")
	case <-time.After(10 * time.Millisecond):
	}
	if err := b.Run(t.Context(), w.ops[1]); !errors.Is(err, ErrPoisoned) {
		t.Errorf("rank 1 ended with %v, want %v", err, ErrPoisoned)
	}
	if err := <-severed; err != nil || !a.device.reached(Open, far) {
		t.Errorf("fills are released: %t, %v", a.device.reached(Open, far), err)
	}
}

// TestReleaseIsSeenAfterAHoldUp: what follows the device may hold a rank up, when a Request ends or where CUDA is asked, for longer
// than another one that has broken waits for it. It looks for the mark again before it sends.
func TestReleaseIsSeenAfterAHoldUp(t *testing.T) {
	w := newStepped(t, []int{0, 0, 1, 1}, 4, 8192, 1024, true)
	a, b := w.engines[0], w.engines[1]
	w.begin(rand.New(rand.NewPCG(1, 1)), schedule.Broadcast, 20_000, 0)
	b.cfg.Pump = func() (bool, error) {
		a.Break(errors.New("enough"))
		a.ReleaseDevice()
		return true, a.Sever(0)
	}
	b.start(w.ops[1])
	if _, err := b.advance(false); !errors.Is(err, ErrPoisoned) {
		t.Errorf("rank 1 goes on with %v, want %v", err, ErrPoisoned)
	}
}

// TestReleaseGoesAroundTheDead: ranks that do not find out are waited for a while, and those in no collective not at all.
func TestReleaseGoesAroundTheDead(t *testing.T) {
	for _, inside := range []bool{false, true} {
		w := newStepped(t, []int{0, 0, 1, 1}, 4, 8192, 1024, true)
		if inside {
			w.engines[1].maySend(true)
		}
		a := w.engines[0]
		a.Break(errors.New("enough"))
		a.ReleaseDevice()
		begin, patience := time.Now(), 50*time.Millisecond
		if !inside {
			patience = time.Hour
		}
		if err := a.Sever(patience); err != nil || !a.device.reached(Open, 1<<20) || inside && time.Since(begin) < patience {
			t.Errorf("after %v fills are released: %t, %v", time.Since(begin), a.device.reached(Open, 1<<20), err)
		}
	}
}
