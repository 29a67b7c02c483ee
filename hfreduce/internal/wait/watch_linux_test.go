// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func watch(t *testing.T, b Bell, fd int, read, write bool) {
	t.Helper()
	if err := b.Watch(fd, read, write); err != nil {
		t.Fatal(err)
	}
}

func sleepNow(b Bell) bool {
	b.Arm()
	return b.Sleep(time.Millisecond)
}

func TestWatchReadable(t *testing.T) {
	p := sharedPair(t, newEventFD(t))
	r, w := newPipe(t)
	watch(t, p.owner, r, true, false)
	if sleepNow(p.owner) {
		t.Fatal("woken by an empty pipe")
	}
	if _, err := unix.Write(w, []byte{1}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // level-triggered
		if !sleepNow(p.owner) {
			t.Fatal("not woken by a readable pipe")
		}
	}
	watch(t, p.owner, r, false, false)
	if sleepNow(p.owner) {
		t.Fatal("woken by a pipe that is no longer watched")
	}
}

func TestWatchWritable(t *testing.T) {
	p := sharedPair(t, newEventFD(t))
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) }()
	watch(t, p.owner, fds[0], true, false)
	if sleepNow(p.owner) {
		t.Fatal("woken by a silent socket")
	}
	watch(t, p.owner, fds[0], true, true)
	if !sleepNow(p.owner) {
		t.Fatal("not woken by a writable socket")
	}
	watch(t, p.owner, fds[0], false, true)
	if !sleepNow(p.owner) {
		t.Fatal("not woken by a writable socket without read interest")
	}
	watch(t, p.owner, fds[0], true, false)
	if sleepNow(p.owner) {
		t.Fatal("woken by a silent socket again")
	}
	if err := unix.Shutdown(fds[1], unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if !sleepNow(p.owner) {
		t.Fatal("not woken by the end of the peer")
	}
}

func TestWatchRingsToo(t *testing.T) {
	p := epollPair(t)
	for range 3 {
		p.owner.Arm()
		p.ringer.Ring()
		if !p.owner.Sleep(long) {
			t.Fatal("lost wake-up")
		}
	}
	if sleepNow(p.owner) {
		t.Fatal("woken by an old eventfd token")
	}
}

// The owner may change its way of sleeping while it is armed; rings of before and after the change must both count.
func TestWatchWhileArmed(t *testing.T) {
	for _, ringFirst := range []bool{true, false} {
		p := sharedPair(t, newEventFD(t))
		r, _ := newPipe(t)
		for _, read := range []bool{true, false} {
			p.owner.Arm()
			if ringFirst {
				p.ringer.Ring()
			}
			watch(t, p.owner, r, read, false)
			if !ringFirst {
				p.ringer.Ring()
			}
			if !p.owner.Sleep(long) {
				t.Fatalf("lost wake-up: ring before the change %v, watch %v", ringFirst, read)
			}
		}
	}
}

func TestWatchMakesEpollLazily(t *testing.T) {
	b := NewShared(new([2]uint32), newEventFD(t)).(*sharedBell)
	defer closeAll(t, b)
	r, _ := newPipe(t)
	if err := b.Watch(r, false, false); err != nil || b.poll.epoll != -1 {
		t.Fatalf("after removing what was never watched: epoll descriptor %d, error %v", b.poll.epoll, err)
	}
	watch(t, b, r, true, false)
	if b.poll.epoll < 0 || b.mode() != inEpoll {
		t.Fatal("no epoll after the first watch")
	}
	watch(t, b, r, false, false)
	if b.mode() != inFutex {
		t.Fatal("still epoll after the last descriptor was removed")
	}
}

func TestWatchClosedDescriptor(t *testing.T) {
	p := sharedPair(t, newEventFD(t))
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	watch(t, p.owner, fds[0], true, false)
	_, _ = unix.Close(fds[0]), unix.Close(fds[1])
	watch(t, p.owner, fds[0], false, false)
	if err := p.owner.Watch(fds[0], true, false); !errors.Is(err, unix.EBADF) {
		t.Fatalf("watch of a closed descriptor: %v, want EBADF", err)
	}
	if sleepNow(p.owner) {
		t.Fatal("woken by a closed descriptor")
	}
}

// TestWatchManyReady: more ready descriptors than one epoll_wait returns must not hide the ring.
func TestWatchManyReady(t *testing.T) {
	p := sharedPair(t, newEventFD(t))
	var readers []int
	for range 20 {
		r, w := newPipe(t)
		if _, err := unix.Write(w, []byte{1}); err != nil {
			t.Fatal(err)
		}
		watch(t, p.owner, r, true, false)
		readers = append(readers, r)
	}
	if !sleepNow(p.owner) {
		t.Fatal("not woken by ready descriptors")
	}
	for _, r := range readers {
		watch(t, p.owner, r, false, false)
	}
	if sleepNow(p.owner) {
		t.Fatal("woken by removed descriptors")
	}
}
