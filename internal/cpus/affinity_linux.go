// SPDX-License-Identifier: Apache-2.0

package cpus

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maskBits is the number of processors that the kernel's mask, as package unix has it, can name.
const maskBits = 1024

// Allowed returns the processors that this thread may run on; that is the whole process unless its threads were bound one
// by one.
func Allowed() (Set, error) {
	var mask unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mask); err != nil {
		return "", fmt.Errorf("cpus: sched_getaffinity: %w", err)
	}
	var all []int
	for n := range maskBits {
		if mask.IsSet(n) {
			all = append(all, n)
		}
	}
	return Of(all...), nil
}

func maskOf(s Set) *unix.CPUSet {
	var mask unix.CPUSet
	for _, n := range s.Numbers() {
		mask.Set(n)
	}
	return &mask
}

// Bind makes all threads of this process run on s only, and so those that they will start.
func Bind(s Set) error {
	mask := maskOf(s)
	const threads = "/proc/self/task"
	for bound := -1; ; { // threads that are not bound yet may start others meanwhile
		entries, err := os.ReadDir(threads)
		if err != nil {
			return fmt.Errorf("cpus: list threads: %w", err)
		}
		for _, e := range entries {
			id, err := strconv.Atoi(e.Name())
			if err != nil {
				return fmt.Errorf("cpus: %s/%s: %w", threads, e.Name(), err)
			}
			if err := unix.SchedSetaffinity(id, mask); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("cpus: bind thread %d to processors %v: %w", id, s, err)
			}
		}
		if len(entries) == bound {
			return nil
		}
		bound = len(entries)
	}
}

// BindThread makes this thread, to which the caller has locked its goroutine, run on s only, and so what it starts.
// restore gives this thread the processors back that it had; call it on this thread, before unlocking it. It does nothing
// if the kernel took those processors away meanwhile. Errors: s is empty, or names no processor that the process may use.
func BindThread(s Set) (restore func(), err error) {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("cpus: sched_getaffinity: %w", err)
	}
	if err := unix.SchedSetaffinity(0, maskOf(s)); err != nil {
		return nil, fmt.Errorf("cpus: bind to processors %v: %w", s, err)
	}
	return func() { _ = unix.SchedSetaffinity(0, &before) }, nil
}
