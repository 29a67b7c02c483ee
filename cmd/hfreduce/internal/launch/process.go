// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is one rank.
type process struct {
	place
	cmd   *exec.Cmd
	lines []*lineWriter // to flush at the end
}

// ending is how a rank ended.
type ending struct {
	*process
	code int    // exit code as a shell has it: 128 + signal for a rank that a signal ended
	text string // "exited with code 3", "was ended by signal killed"
	err  error  // the rank could not be waited for
}

// outputs are the destinations of all ranks' output.
type outputs struct {
	mu sync.Mutex
	o  *Options
}

// pipeGrace is how long output of a rank's own children is waited for after the rank has ended.
const pipeGrace = time.Second

// command prepares the process of a rank.
func (out *outputs) command(j job, p place) *process {
	cmd := exec.Command(out.o.Command[0], out.o.Command[1:]...)
	cmd.Env = j.environ(out.o.Env, p)
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = pipeGrace
	rank := &process{place: p, cmd: cmd}
	if out.o.Output == Direct {
		cmd.Stdout, cmd.Stderr = out.o.Stdout, out.o.Stderr
		return rank
	}
	prefix := ""
	if out.o.Output == Prefixed {
		prefix = fmt.Sprintf("[%d] ", p.rank)
	}
	stdout := &lineWriter{mu: &out.mu, to: out.o.Stdout, prefix: prefix}
	stderr := &lineWriter{mu: &out.mu, to: out.o.Stderr, prefix: prefix}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	rank.lines = []*lineWriter{stdout, stderr}
	return rank
}

// wait waits for the end of the rank and of its output. What the rank has started and left behind in its group goes with
// it.
func (p *process) wait() ending {
	awaitEnd(p.cmd.Process)
	p.signal(syscall.SIGKILL)
	err := p.cmd.Wait()
	for _, l := range p.lines {
		if flushErr := l.flush(); err == nil && flushErr != nil {
			err = flushErr
		}
	}
	e := ending{process: p}
	var exit *exec.ExitError
	switch {
	case p.cmd.ProcessState == nil:
		e.code, e.text, e.err = 1, "could not be waited for", err
	case errors.As(err, &exit):
		e.code, e.text = describe(exit.ProcessState)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		e.code, e.text, e.err = 1, "lost its output", err
	}
	return e
}

// describe returns a failure's exit code and words for it.
func describe(s *os.ProcessState) (code int, text string) {
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), fmt.Sprintf("was ended by signal %d (%v)", int(status.Signal()), status.Signal())
	}
	return s.ExitCode(), fmt.Sprintf("exited with code %d", s.ExitCode())
}

// signal sends a signal to the rank and to what it has started.
func (p *process) signal(s Signal) {
	_ = signalGroup(p.cmd.Process, s) // a rank that has ended needs none
}
