// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"runtime"
	"sync/atomic"
	"time"
)

// The bell's word in shared memory: the state tells ringers how the owner sleeps, the sequence number is the mark that a
// ringer leaves and the value that the owner's futex sleep depends on.
const (
	stateWord = 0
	seqWord   = 1
)

// Values of the state. Only the owner writes it.
const (
	awake   = 0 // nothing to do for a ringer
	inFutex = 1 // wake the futex on the sequence number
	inEpoll = 2 // write the owner's eventfd
)

// sharedBell is one process's view of a bell whose word may lie in memory that several processes map. The owner and its
// ringers each have one of their own; they share the word and the eventfd's open file only.
type sharedBell struct {
	word    *[2]uint32
	eventfd int

	closed  atomic.Bool
	ringers atomic.Int32 // rings of this process that are past the look at closed

	armed  bool // the fields from here on are the owner's
	seen   uint32
	poll   poller
	futex  futexTimeout
	waiter sleeper
}

// NewShared returns the view of this process on the bell whose word is word: the owner's view, and that of every ringer,
// in this process or in another one that maps the same memory. The word must be zero before the first use.
//
// eventfd is the owner's eventfd (NewEventFD) or this process's duplicate of it, -1 if the owner never watches
// descriptors. It stays the caller's: Close does not close it, but after Close this view no longer writes it. The word
// must stay mapped until Close has returned and no Ring of this view is running.
//
// The owner sleeps in a futex while it watches no descriptor, in epoll otherwise; the epoll instance is made by the first
// Watch. Both sleeps hold the owner's thread: ranks that are goroutines of one process and watch nothing do better with
// NewChan.
func NewShared(word *[2]uint32, eventfd int) Bell {
	b := &sharedBell{word: word, eventfd: eventfd}
	b.poll.init(eventfd)
	return b
}

func (b *sharedBell) Ring() {
	fence()
	if b.closed.Load() || atomic.LoadUint32(&b.word[stateWord]) == awake {
		return
	}
	b.wake()
}

// wake leaves the mark first and looks at the state after it. So if the owner changes the way it sleeps meanwhile (Watch
// between Arm and Sleep), either this side sees the new state or the owner sees the mark.
func (b *sharedBell) wake() {
	b.ringers.Add(1)
	defer b.ringers.Add(-1)
	if b.closed.Load() {
		return
	}
	atomic.AddUint32(&b.word[seqWord], 1)
	switch atomic.LoadUint32(&b.word[stateWord]) {
	case inFutex:
		futexWake(&b.word[seqWord])
	case inEpoll:
		signalEventFD(b.eventfd)
	}
}

// Arm reads the sequence number before it announces the sleep: whoever sees the announcement steps it afterwards.
func (b *sharedBell) Arm() {
	b.seen = atomic.LoadUint32(&b.word[seqWord])
	b.armed = true
	atomic.StoreUint32(&b.word[stateWord], b.mode())
	fence()
}

func (b *sharedBell) Disarm() {
	b.armed = false
	atomic.StoreUint32(&b.word[stateWord], awake)
}

func (b *sharedBell) Armed() bool { return b.armed }

func (b *sharedBell) mode() uint32 {
	if len(b.poll.watched) > 0 {
		return inEpoll
	}
	return inFutex
}

func (b *sharedBell) rung() bool { return atomic.LoadUint32(&b.word[seqWord]) != b.seen }

func (b *sharedBell) Sleep(timeout time.Duration) bool {
	if !b.armed {
		return true
	}
	defer b.Disarm()
	b.waiter.start(timeout)
	for !b.rung() {
		left, ok := b.waiter.left()
		if !ok {
			return false
		}
		if b.mode() == inFutex {
			if !b.futex.wait(&b.word[seqWord], b.seen, left) {
				return true
			}
			continue
		}
		if b.poll.wait(left) {
			return true
		}
	}
	return true
}

// Watch may also be called between Arm and Sleep; the state then changes under the ringers' eyes (see wake).
func (b *sharedBell) Watch(fd int, read, write bool) error {
	if err := b.poll.watch(fd, read, write); err != nil {
		return err
	}
	if b.armed {
		atomic.StoreUint32(&b.word[stateWord], b.mode())
		fence()
	}
	return nil
}

// Close waits for this view's rings that are past the look at closed; each of them is one system call that can't block.
func (b *sharedBell) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	for b.ringers.Load() != 0 {
		runtime.Gosched()
	}
	if b.armed {
		b.Disarm()
	}
	return b.poll.close()
}

// sleeper tells how much is left of one sleep, over any number of system calls that end early.
type sleeper struct {
	timeout  time.Duration
	deadline time.Time
	begun    bool
}

func (s *sleeper) start(timeout time.Duration) {
	*s = sleeper{timeout: timeout}
	if timeout > 0 {
		s.deadline = time.Now().Add(timeout)
	}
}

// left returns the time that is left, zero for no timeout, and false when it has passed. The first call reads no clock.
func (s *sleeper) left() (time.Duration, bool) {
	if s.timeout <= 0 {
		return 0, true
	}
	if !s.begun {
		s.begun = true
		return s.timeout, true
	}
	left := time.Until(s.deadline)
	return left, left > 0
}
