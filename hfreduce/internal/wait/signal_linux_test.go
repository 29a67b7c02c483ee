// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A signal that interrupts the system call must neither end the sleep nor prolong it for ever.
func TestSleepInterrupted(t *testing.T) {
	for _, k := range kinds {
		if k.name == "chan" {
			continue // sleeps in the runtime
		}
		t.Run(k.name, func(t *testing.T) {
			p := k.make(t)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			stop := bombard(t, unix.Gettid())
			const timeout = 100 * time.Millisecond
			p.owner.Arm()
			begin := time.Now()
			rung := p.owner.Sleep(timeout)
			d := time.Since(begin)
			stop()
			if rung {
				t.Error("a signal counts as a ring")
			}
			if d < timeout {
				t.Errorf("sleep of %v ended after %v", timeout, d)
			}
		})
	}
}

// bombard sends SIGURG, which the runtime handles and forgets, to one thread until stop is called.
func bombard(t *testing.T, tid int) (stop func()) {
	end := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				if err := unix.Tgkill(os.Getpid(), tid, unix.SIGURG); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	return func() { close(end); group.Wait() }
}
