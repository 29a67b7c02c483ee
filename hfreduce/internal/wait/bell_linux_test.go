// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// long is the time after which a sleep that should have been ended counts as a lost wake-up.
const long = 30 * time.Second

// pair is a bell as its owner sees it and as a ringer does.
type pair struct{ owner, ringer Bell }

var kinds = []struct {
	name string
	make func(t *testing.T) pair
}{
	{"chan", func(*testing.T) pair { b := NewChan(); return pair{b, b} }},
	{"futex", func(t *testing.T) pair { return sharedPair(t, -1) }},
	{"epoll", func(t *testing.T) pair { return epollPair(t) }},
	{"changing", func(t *testing.T) pair { return changingPair(t) }},
}

// changing is an owner that changes its way of sleeping between Arm and each Sleep, while rings may be under way.
type changing struct {
	Bell
	t  *testing.T
	fd int
	on bool
}

func (c *changing) Sleep(timeout time.Duration) bool {
	Pause(100) // give a ringer the time to see the old way
	c.on = !c.on
	if err := c.Watch(c.fd, c.on, false); err != nil {
		c.t.Error(err)
	}
	return c.Bell.Sleep(timeout)
}

func changingPair(t *testing.T) pair {
	t.Helper()
	p := sharedPair(t, newEventFD(t))
	r, _ := newPipe(t)
	return pair{&changing{Bell: p.owner, t: t, fd: r}, p.ringer}
}

func sharedPair(t *testing.T, eventfd int) pair {
	t.Helper()
	word := new([2]uint32)
	p := pair{NewShared(word, eventfd), NewShared(word, eventfd)}
	t.Cleanup(func() { closeAll(t, p.owner, p.ringer) })
	return p
}

// epollPair's owner watches a pipe that stays silent.
func epollPair(t *testing.T) pair {
	t.Helper()
	p := sharedPair(t, newEventFD(t))
	r, _ := newPipe(t)
	if err := p.owner.Watch(r, true, false); err != nil {
		t.Fatal(err)
	}
	return p
}

func closeAll(t *testing.T, bells ...Bell) {
	t.Helper()
	for _, b := range bells {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	}
}

func newEventFD(t *testing.T) int {
	t.Helper()
	fd, err := NewEventFD()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func newPipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(p[0]), unix.Close(p[1]) })
	return p[0], p[1]
}

func eachKind(t *testing.T, f func(t *testing.T, p pair)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { f(t, k.make(t)) })
	}
}

func TestBellRememberedRing(t *testing.T) {
	eachKind(t, func(t *testing.T, p pair) {
		for range 3 { // also after earlier sleeps
			p.owner.Arm()
			p.ringer.Ring()
			p.ringer.Ring()
			if !p.owner.Sleep(long) {
				t.Fatal("a ring between Arm and Sleep was forgotten")
			}
		}
	})
}

func TestBellRingBeforeArmIsForgotten(t *testing.T) {
	eachKind(t, func(t *testing.T, p pair) {
		p.ringer.Ring()
		p.owner.Arm()
		p.owner.Disarm()
		p.ringer.Ring()
		p.owner.Arm()
		if p.owner.Sleep(time.Millisecond) {
			t.Fatal("rung without a ring since Arm")
		}
	})
}

// A ring that the owner did not sleep on (Arm, Ring, Disarm) must not end the next sleep but once, and must not end it
// with "timeout".
func TestBellOldRing(t *testing.T) {
	eachKind(t, func(t *testing.T, p pair) {
		p.owner.Arm()
		p.ringer.Ring()
		p.owner.Disarm()
		p.owner.Arm()
		if p.owner.Sleep(time.Millisecond) {
			t.Fatal("rung by a ring of before Arm")
		}
		p.owner.Arm()
		p.ringer.Ring()
		if !p.owner.Sleep(long) {
			t.Fatal("a ring after an old one was forgotten")
		}
	})
}

func TestBellTimeout(t *testing.T) {
	eachKind(t, func(t *testing.T, p pair) {
		for _, timeout := range []time.Duration{1, 500 * time.Microsecond, 20 * time.Millisecond} {
			p.owner.Arm()
			begin := time.Now()
			if p.owner.Sleep(timeout) {
				t.Errorf("sleep of %v: rung by nobody", timeout)
			}
			if d := time.Since(begin); d < timeout {
				t.Errorf("sleep of %v ended after %v", timeout, d)
			}
		}
	})
}

func TestBellWakesSleeper(t *testing.T) {
	eachKind(t, func(t *testing.T, p pair) {
		var flag atomic.Bool
		armed := make(chan struct{})
		done := make(chan bool, 1)
		go func() {
			p.owner.Arm()
			close(armed)
			done <- p.owner.Sleep(long) && flag.Load()
		}()
		<-armed
		flag.Store(true)
		p.ringer.Ring()
		if !<-done {
			t.Fatal("lost wake-up")
		}
	})
}

func TestBellSleepUnarmed(t *testing.T) {
	eachKind(t, func(t *testing.T, p pair) {
		if !p.owner.Sleep(0) {
			t.Error("sleep on a bell that is not armed timed out")
		}
		p.owner.Arm()
		p.owner.Disarm()
		if !p.owner.Sleep(0) {
			t.Error("sleep on a disarmed bell timed out")
		}
	})
}

func TestBellRingAfterClose(t *testing.T) {
	eachKind(t, func(t *testing.T, p pair) {
		p.owner.Arm()
		if err := p.owner.Close(); err != nil {
			t.Fatal(err)
		}
		p.owner.Ring()
		p.ringer.Ring()
	})
}

// A ringer must not clear the state: if it is killed before its system call, the next one has to wake the owner.
func TestSharedRingLeavesStateToOwner(t *testing.T) {
	word := new([2]uint32)
	owner, ringer := NewShared(word, -1), NewShared(word, -1)
	defer closeAll(t, owner, ringer)
	owner.Arm()
	ringer.Ring()
	if word[stateWord] != inFutex || word[seqWord] != 1 {
		t.Fatalf("word after a ring: %v, want [%d 1]", *word, inFutex)
	}
	owner.Disarm()
	ringer.Ring()
	if word[stateWord] != awake || word[seqWord] != 1 {
		t.Fatalf("word after a ring while awake: %v, want [%d 1]", *word, awake)
	}
}

func TestBellAllocatesNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, p pair) {
		p.owner.Arm()
		p.owner.Sleep(1) // what is made once
		for name, f := range map[string]func(){
			"ring awake":     func() { p.ringer.Ring() },
			"arm disarm":     func() { p.owner.Arm(); p.owner.Disarm() },
			"arm ring sleep": func() { p.owner.Arm(); p.ringer.Ring(); p.owner.Sleep(long) },
			"sleep timeout":  func() { p.owner.Arm(); p.owner.Sleep(1) },
		} {
			if n := testing.AllocsPerRun(20, f); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	})
}

func TestWatchNotSupported(t *testing.T) {
	r, _ := newPipe(t)
	for name, b := range map[string]Bell{"chan": NewChan(), "no eventfd": NewShared(new([2]uint32), -1)} {
		err := b.Watch(r, true, false)
		if !errors.Is(err, ErrNotSupported) || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: watch: %v, want ErrNotSupported", name, err)
		}
		closeAll(t, b)
	}
}
