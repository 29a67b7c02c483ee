// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"slices"
	"testing"
)

// TestNoticesAreNotKept gives more notices than the log of aborts may hold: late subscribers hear none of them, present
// ones the latest, and aborts are heard all the same.
func TestNoticesAreNotKept(t *testing.T) {
	v := newEvents()
	var heard []string
	defer v.subscribe(func(e Event) { heard = append(heard, e.Text) })()
	const given = maxAborts + 10
	for i := range given {
		v.publish(Event{Kind: Notice, Text: fmt.Sprint(i)})
	}
	v.publish(Event{Kind: Abort, Text: "over"})
	var late []string
	defer v.subscribe(func(e Event) { late = append(late, e.Text) })()
	for call, e, _ := v.pick(); call != nil; call, e, _ = v.pick() {
		call(e)
	}
	if !slices.Equal(late, []string{"over"}) {
		t.Errorf("the late subscriber heard %q, want the abort alone", late)
	}
	if len(heard) != maxNotices+1 || heard[0] != "over" || heard[maxNotices] != fmt.Sprint(given-1) {
		t.Errorf("the subscriber heard %d events from %q to %q", len(heard), heard[0], heard[len(heard)-1])
	}
	if len(v.log) != 1 {
		t.Errorf("%d events are kept, want 1", len(v.log))
	}
}

// TestManyAbortsDoNotDeafen: who listens hears what comes after more aborts than are kept, and so does who comes late.
func TestManyAbortsDoNotDeafen(t *testing.T) {
	v := newEvents()
	last, late := Event{}, Event{}
	n := 0
	defer v.subscribe(func(e Event) { last = e; n++ })()
	hear := func() {
		for call, e, _ := v.pick(); call != nil; call, e, _ = v.pick() {
			call(e)
		}
	}
	v.publish(Event{Kind: PeerLost})
	for range 2 * maxAborts {
		v.publish(Event{Kind: Abort})
		hear()
	}
	v.publish(Event{Kind: Verdict, Text: "guilty"})
	hear()
	if n != 2*maxAborts+2 || last.Text != "guilty" {
		t.Errorf("heard %d events, at last %+v", n, last)
	}
	defer v.subscribe(func(e Event) { late = e })()
	if hear(); late.Text != "guilty" || len(v.log) != maxAborts+1 || v.log[0].Kind != PeerLost {
		t.Errorf("%d events are kept, the last one that is heard late is %+v", len(v.log), late)
	}
}
