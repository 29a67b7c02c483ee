// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// onCPU runs f on a thread of its own that is pinned to a processor, given as in Config.CPU, and tells f which one it is:
// AnyCPU for none.
func onCPU(choice int, f func(cpu int) error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the pinning with it
		cpu, err := pin(choice)
		if err == nil {
			err = f(cpu)
		}
		done <- err
	}()
	return <-done
}

// pin restricts the calling thread to a processor and returns which.
func pin(choice int) (int, error) {
	if choice == AnyCPU {
		return AnyCPU, nil
	}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return 0, fmt.Errorf("ask which processors may be used: %w; use --bind none", err)
	}
	cpu, err := choose(choice, processors(allowed))
	if err != nil {
		return 0, err
	}
	var mask unix.CPUSet
	mask.Set(cpu)
	if err := unix.SchedSetaffinity(0, &mask); err != nil {
		return 0, fmt.Errorf("pin to processor %d: %w; use --bind none", cpu, err)
	}
	return cpu, nil
}

// processors lists a set.
func processors(set unix.CPUSet) []int {
	var all []int
	for cpu := 0; len(all) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	return all
}
