// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signal is one of the system's signals.
type Signal = syscall.Signal

// attributes make a process lead a group of its own and die with the thread that started it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// signalGroup sends a signal to a process's group.
func signalGroup(p *os.Process, s Signal) error { return syscall.Kill(-p.Pid, s) }

// awaitEnd waits for the end of a process without releasing its number, so that its group can still be signalled safely.
func awaitEnd(p *os.Process) {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}

// pin restricts the calling thread, and so the processes that it starts, to the processors of one of n ranks: an equal
// share of those that this process may use, or one that is shared where there are fewer than ranks.
func pin(rank, n int, allowed unix.CPUSet) error {
	set := share(rank, n, processors(allowed))
	var mask unix.CPUSet
	for _, cpu := range set {
		mask.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &mask); err != nil {
		return fmt.Errorf("launch: pin rank %d to processors %v: %w", rank, set, err)
	}
	return nil
}

// share returns the processors of one of n ranks.
func share(rank, n int, all []int) []int {
	size := max(1, len(all)/n)
	first := rank * size % len(all)
	return all[first : first+size]
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

// starter starts processes from a thread that lives until close: the system kills processes with the thread, not with
// the process, that started them.
type starter struct {
	work    chan func()
	allowed unix.CPUSet // processors that ranks may be pinned to
}

func newStarter() (starter, error) {
	s := starter{work: make(chan func())}
	if err := unix.SchedGetaffinity(0, &s.allowed); err != nil {
		return s, fmt.Errorf("launch: ask which processors may be used: %w", err)
	}
	go func() {
		runtime.LockOSThread() // never unlocked: pinning must not leak to other goroutines
		for f := range s.work {
			f()
		}
	}()
	return s, nil
}

// start starts a rank, pinned to its share of the processors if ranks is above 0.
func (s starter) start(p *process, ranks int) error {
	done := make(chan error)
	s.work <- func() {
		if ranks > 0 {
			if err := pin(p.rank, ranks, s.allowed); err != nil {
				done <- err
				return
			}
		}
		done <- p.cmd.Start()
	}
	return <-done
}

// close ends the thread, and with it what it started and what still runs.
func (s starter) close() { close(s.work) }
