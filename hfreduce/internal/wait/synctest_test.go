// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestChanBellInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bell := NewChan()
		defer func() { _ = bell.Close() }()
		var flag, woken atomic.Bool
		go func() {
			backoff := NewBackoff(LocalPolicy(1000, 2))
			for !flag.Load() {
				if !backoff.Idle() {
					continue
				}
				bell.Arm()
				if flag.Load() {
					bell.Disarm()
					break
				}
				bell.Sleep(0)
			}
			woken.Store(true)
		}()
		synctest.Wait() // returns only if the sleeper is durably blocked
		flag.Store(true)
		bell.Ring()
		synctest.Wait()
		if !woken.Load() {
			t.Fatal("lost wake-up")
		}
	})
}

func TestChanBellTimeoutInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bell := NewChan()
		for _, timeout := range []time.Duration{time.Hour, time.Nanosecond, 24 * time.Hour} {
			begin := time.Now()
			bell.Arm()
			if bell.Sleep(timeout) {
				t.Fatal("rung by nobody")
			}
			if d := time.Since(begin); d != timeout {
				t.Fatalf("sleep of %v took %v", timeout, d)
			}
		}
		bell.Arm()
		bell.Ring()
		if !bell.Sleep(time.Hour) {
			t.Fatal("a ring after timeouts was forgotten")
		}
	})
}
