// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"fmt"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Futex operations from linux/futex.h. Without FUTEX_PRIVATE_FLAG: waiter and waker may be two processes.
const (
	futexOpWait = 0
	futexOpWake = 1
)

// futexTimeout keeps the timeout that is handed to the kernel in the bell's own memory.
type futexTimeout struct{ ts unix.Timespec }

// wait sleeps while *word is expected. It returns true when the caller should look again: woken, timed out, interrupted
// by a signal, or the value has changed. False means that the kernel refuses the word, so that sleeping is no use.
//
// It must be a Syscall6, never a RawSyscall6: the runtime has to know that the thread blocks, or the next garbage
// collection waits for it for ever.
func (f *futexTimeout) wait(word *uint32, expected uint32, timeout time.Duration) bool {
	var ts *unix.Timespec // relative, on the monotonic clock
	if timeout > 0 {
		f.ts = unix.NsecToTimespec(int64(timeout))
		ts = &f.ts
	}
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexOpWait, uintptr(expected),
		uintptr(unsafe.Pointer(ts)), 0, 0)
	switch errno {
	case 0, unix.EAGAIN, unix.EINTR, unix.ETIMEDOUT:
		return true
	}
	return false
}

func futexWake(word *uint32) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexOpWake, math.MaxInt32, 0, 0, 0)
}

// NewEventFD returns a non-blocking, close-on-exec eventfd for NewShared. The caller closes it.
func NewEventFD() (int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("wait: eventfd: %w%s", err, descriptorRemedy(err))
	}
	return fd, nil
}

// signalEventFD makes the eventfd readable. EAGAIN means that its counter is full: it is readable already.
func signalEventFD(fd int) {
	one := uint64(1)
	for {
		_, _, errno := unix.Syscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one))
		if errno != unix.EINTR {
			return
		}
	}
}

func drainEventFD(fd int) {
	var count uint64
	for {
		_, _, errno := unix.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&count)), unsafe.Sizeof(count))
		if errno != unix.EINTR {
			return
		}
	}
}

// descriptorRemedy tells what to do about an error of a call that makes a descriptor.
func descriptorRemedy(err error) string {
	switch err {
	case unix.EMFILE:
		return " (raise the limit of open files of this process: ulimit -n)"
	case unix.ENFILE:
		return " (raise the limit of open files of the system: sysctl fs.file-max)"
	}
	return ""
}
