// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A connection that this side ends because the other host is silent tells so, and not that it was closed.
func TestSilentHostIsNamed(t *testing.T) {
	ss := world(t, job(t, 3))
	zero, one := watch(ss[0]), watch(ss[1])
	hub := ss[0].hub
	hub.mu.Lock()
	w := hub.members[2].wire
	hub.mu.Unlock()
	w.expire(fmt.Errorf("its host has acknowledged nothing for 8s"))
	for _, c := range []chan Event{zero, one} {
		if e := next(t, c); e.Kind != PeerLost || e.Rank != 2 || e.Text != "its host has acknowledged nothing for 8s" {
			t.Errorf("got %+v", e)
		}
	}
	if text := describe(fmt.Errorf("read: %w", syscall.ETIMEDOUT)); !strings.Contains(text, "its host does not answer") {
		t.Errorf("the kernel's timeout is told as %q", text)
	}
}

// A connection whose host answers is let alone, however short the bound, and one that has no host is not looked at.
func TestHeartbeatOfLivingHosts(t *testing.T) {
	ss := world(t, job(t, 2))
	for _, w := range append(ss[0].hub.wires(nil), ss[0].wire, ss[1].wire) {
		own := newWire(w.conn) // the other one's gauge is its heartbeat's
		for i := range 10 {
			own.look(time.Now().Add(time.Duration(i)*time.Hour), time.Nanosecond)
		}
	}
	mustExchange(t, ss, "after", []int{0, 1})
}
