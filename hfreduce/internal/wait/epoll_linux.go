// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// poller is the epoll side of a shared bell: the watched descriptors and the owner's eventfd.
type poller struct {
	eventfd int
	epoll   int            // -1 until the first watch
	watched map[int]uint32 // descriptor to its interest
	ready   [8]unix.EpollEvent
	self    [1]unix.PollFd // for poll
	limit   unix.Timespec
}

func (p *poller) init(eventfd int) { p.eventfd, p.epoll = eventfd, -1 }

func (p *poller) open() error {
	if p.eventfd < 0 {
		return fmt.Errorf("wait: watch: the bell has no eventfd: %w", ErrNotSupported)
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("wait: epoll_create1: %w%s", err, descriptorRemedy(err))
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.eventfd)}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, p.eventfd, &ev); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("wait: epoll_ctl add eventfd %d: %w", p.eventfd, err)
	}
	p.epoll, p.watched = fd, make(map[int]uint32)
	return nil
}

// watch changes one descriptor's interest; an interest that stays the same costs no system call.
func (p *poller) watch(fd int, read, write bool) error {
	var want uint32
	if read {
		want |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if write {
		want |= unix.EPOLLOUT
	}
	have, known := p.watched[fd]
	if have == want {
		return nil
	}
	if want == 0 {
		return p.forget(fd)
	}
	if p.epoll < 0 {
		if err := p.open(); err != nil {
			return err
		}
	}
	op := unix.EPOLL_CTL_ADD
	if known {
		op = unix.EPOLL_CTL_MOD
	}
	ev := unix.EpollEvent{Events: want, Fd: int32(fd)}
	err := unix.EpollCtl(p.epoll, op, fd, &ev)
	if known && err == unix.ENOENT { // closed without a word, and the number is in use again
		err = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &ev)
	}
	if err != nil {
		return fmt.Errorf("wait: epoll_ctl watch descriptor %d: %w%s", fd, err, watchRemedy(err))
	}
	p.watched[fd] = want
	return nil
}

func watchRemedy(err error) string {
	if errors.Is(err, unix.ENOSPC) {
		return " (raise the limit of watched descriptors: sysctl fs.epoll.max_user_watches)"
	}
	return ""
}

// forget drops a descriptor. One that is closed already has left the epoll instance by itself.
func (p *poller) forget(fd int) error {
	delete(p.watched, fd)
	err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	if err != nil && err != unix.EBADF && err != unix.ENOENT {
		return fmt.Errorf("wait: epoll_ctl remove descriptor %d: %w", fd, err)
	}
	return nil
}

// wait sleeps until a watched descriptor is ready, and then returns true. False means: look at the mark and the clock
// again. A token in the eventfd alone is not enough for true: it may be an old one.
func (p *poller) wait(timeout time.Duration) bool {
	left := milliseconds(timeout)
	if timeout > 0 && timeout < shortWait {
		p.poll(timeout)
		left = 0
	}
	n, err := unix.EpollWait(p.epoll, p.ready[:], left)
	if err != nil {
		return err != unix.EINTR // a broken epoll instance must not become a hang
	}
	ready := false
	for i := range p.ready[:n] {
		if int(p.ready[i].Fd) == p.eventfd {
			drainEventFD(p.eventfd)
			continue
		}
		ready = true
	}
	return ready
}

// shortWait is from where on epoll_wait's milliseconds are exact enough.
const shortWait = 5 * time.Millisecond

// poll waits until a descriptor is ready or the time is over, which poll takes in nanoseconds.
func (p *poller) poll(timeout time.Duration) {
	p.self[0] = unix.PollFd{Fd: int32(p.epoll), Events: unix.POLLIN}
	p.limit = unix.NsecToTimespec(int64(timeout))
	_, _ = unix.Ppoll(p.self[:], &p.limit, nil) // whatever it says, epoll_wait looks
}

// milliseconds rounds up, so that a sleep is never shorter than asked for; -1 is no timeout.
func milliseconds(timeout time.Duration) int {
	if timeout <= 0 {
		return -1
	}
	ms := (timeout + time.Millisecond - 1) / time.Millisecond
	return int(min(ms, math.MaxInt32))
}

func (p *poller) close() error {
	if p.epoll < 0 {
		return nil
	}
	fd := p.epoll
	p.epoll, p.watched = -1, nil
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("wait: close epoll descriptor: %w", err)
	}
	return nil
}
