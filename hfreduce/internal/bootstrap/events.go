// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"slices"
	"sync"
)

// EventKind says what an Event is.
type EventKind uint8

// The kinds of events.
const (
	PeerLost EventKind = 1 // a rank's control connection ended without a goodbye
	Abort    EventKind = 2 // a rank called Session.Abort
	Notice   EventKind = 3 // a rank called Session.Notify
	Verdict  EventKind = 4 // the hub has judged what a rank reported (Session.Report)
)

// String names the kind.
func (k EventKind) String() string {
	switch k {
	case PeerLost:
		return "peer lost"
	case Abort:
		return "abort"
	case Notice:
		return "notice"
	case Verdict:
		return "verdict"
	}
	return "unknown event"
}

// Event is something that happened on another rank.
type Event struct {
	Kind  EventKind
	Rank  int // whom it happened to; of Verdict the rank that reported first
	Host  string
	PID   int
	Scope string // of Abort, Notice and Verdict, as it was given there
	Text  string // the reason; of Verdict what Config.Judge returned
}

// maxAborts bounds how many aborts and verdicts are kept for late subscribers; losses are bounded by the world size.
const maxAborts = 4096

// maxNotices bounds how many notices wait for a subscriber; older ones give way.
const maxNotices = 64

// events keeps all events but notices, which go to those who subscribe at the time, and brings each subscriber all of them, in order, on one goroutine.
type events struct {
	mu     sync.Mutex
	log    []Event
	aborts int
	subs   []*subscriber
	closed bool
	more   chan struct{} // capacity 1
}

type subscriber struct {
	call    func(Event)
	next    int     // index in log
	notices []Event // that wait for it
}

func newEvents() *events { return &events{more: make(chan struct{}, 1)} }

// run calls the subscribers until close.
func (v *events) run() {
	for {
		call, e, closed := v.pick()
		switch {
		case closed:
			return
		case call != nil:
			call(e)
		default:
			<-v.more
		}
	}
}

// pick returns the next call to make, if any.
func (v *events) pick() (call func(Event), e Event, closed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, Event{}, true
	}
	for _, s := range v.subs {
		if s.next < len(v.log) {
			s.next++
			return s.call, v.log[s.next-1], false
		}
		if len(s.notices) > 0 {
			e, s.notices = s.notices[0], s.notices[1:]
			return s.call, e, false
		}
	}
	return nil, Event{}, false
}

func (v *events) publish(e Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.Kind == Notice {
		for _, s := range v.subs {
			s.notices = append(s.notices[max(0, len(s.notices)+1-maxNotices):], e)
		}
		v.wake()
		return
	}
	if e.Kind != PeerLost {
		if v.aborts++; v.aborts > maxAborts {
			v.forget()
		}
	}
	v.log = append(v.log, e)
	v.wake()
}

// forget drops the oldest event that is not a loss: who subscribes late does so for what is being made now.
func (v *events) forget() {
	i := slices.IndexFunc(v.log, func(e Event) bool { return e.Kind != PeerLost })
	v.log = slices.Delete(v.log, i, i+1)
	v.aborts--
	for _, s := range v.subs {
		if s.next > i {
			s.next--
		}
	}
}

func (v *events) subscribe(call func(Event)) (cancel func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := &subscriber{call: call}
	v.subs = append(v.subs, s)
	v.wake()
	return func() { v.unsubscribe(s) }
}

func (v *events) unsubscribe(s *subscriber) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, o := range v.subs {
		if o == s {
			v.subs = append(v.subs[:i:i], v.subs[i+1:]...)
			return
		}
	}
}

func (v *events) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	v.wake()
}

func (v *events) wake() {
	select {
	case v.more <- struct{}{}:
	default:
	}
}
