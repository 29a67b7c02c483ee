// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/internal/cpus"
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

// starter starts processes from a thread that lives until close: the system kills processes with the thread, not with
// the process, that started them.
type starter struct {
	work    chan func()
	allowed cpus.Set // processors that ranks may be bound to
	nodes   []cpus.Set
}

func newStarter() (s starter, err error) {
	s = starter{work: make(chan func())}
	if s.allowed, err = cpus.Allowed(); err != nil {
		return s, fmt.Errorf("launch: %w", err)
	}
	if s.nodes, err = cpus.NUMA(os.DirFS("/sys"), s.allowed); err != nil {
		return s, fmt.Errorf("launch: %w", err)
	}
	go func() {
		runtime.LockOSThread() // never unlocked: the binding must not leak to other goroutines
		for f := range s.work {
			f()
		}
	}()
	return s, nil
}

// start starts one of n ranks, bound to its processors.
func (s starter) start(p *process, b cpus.Binding, n int) error {
	done := make(chan error)
	s.work <- func() {
		if b != cpus.None {
			if _, err := cpus.BindThread(b.Place(s.allowed, s.nodes, p.rank, n)); err != nil {
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
