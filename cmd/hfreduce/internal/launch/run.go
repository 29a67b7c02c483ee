// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// running is a job whose ranks have been started.
type running struct {
	o         *Options
	processes []*process // that have not ended
	ended     chan ending
	lenience  <-chan time.Time // set when the others are given time to end by themselves
	kill      <-chan time.Time // set when the others are being ended
	code      int              // of the first rank that failed
	well      bool             // a rank has ended without a failure
	missed    int              // exit code of the last rank that could be dispensed with
}

// Run runs a job and returns the exit code of the first rank that failed, 0 if none did. An error means that the job
// could not be started.
func Run(o Options) (code int, err error) {
	if err := o.Validate(); err != nil {
		return 0, fmt.Errorf("launch: %w", err)
	}
	if o.Output == Direct {
		// Each rank leads a process group, which is none of the terminal's foreground: with `stty tostop` it would stop, for good,
		// at its first line. What is ignored here is so in the ranks.
		signal.Ignore(syscall.SIGTTOU)
	}
	j, err := newJob(o.Ranks, o.Nodes)
	if err != nil {
		return 0, err
	}
	s, err := newStarter()
	if err != nil {
		return 0, err
	}
	defer s.close()
	r := &running{o: &o, ended: make(chan ending)}
	if err := r.start(s, j); err != nil {
		r.end()
		r.supervise()
		return 0, err
	}
	r.supervise()
	if r.code == 0 && !r.well {
		return r.missed, nil
	}
	return r.code, nil
}

// start starts all ranks.
func (r *running) start(s starter, j job) error {
	out := &outputs{o: r.o}
	for rank := range r.o.Ranks {
		p := out.command(j, placeOf(rank, r.o.Ranks, r.o.Nodes))
		if err := s.start(p, r.o.binding(), r.o.Ranks); err != nil {
			return fmt.Errorf("launch: start rank %d: %w", rank, err)
		}
		r.processes = append(r.processes, p)
		go func() { r.ended <- p.wait() }()
	}
	return nil
}

// supervise passes signals on and waits for all ranks.
func (r *running) supervise() {
	for len(r.processes) > 0 {
		select {
		case e := <-r.ended:
			r.took(e)
		case s := <-r.o.Signals:
			r.pass(s)
		case <-r.lenience:
			r.end()
		case <-r.kill:
			r.signal(syscall.SIGKILL)
		}
	}
}

// took notes that a rank has ended.
func (r *running) took(e ending) {
	r.processes = slices.DeleteFunc(r.processes, func(p *process) bool { return p == e.process })
	if e.code == 0 {
		r.endedWell()
		return
	}
	if r.o.Dispensable != nil && r.o.Dispensable(e.code) {
		if r.missed = e.code; r.kill == nil {
			r.tell(e, "the others go on")
		}
		return
	}
	if r.code != 0 {
		return
	}
	r.code = e.code
	if r.kill != nil {
		return // ended by us
	}
	if r.o.Explained != nil && r.o.Explained(e.code) {
		r.lenience = time.After(lenience)
		return
	}
	r.tell(e, fmt.Sprintf("ending the %d others", len(r.processes)))
	r.end()
}

// endedWell notes that a rank has ended without a failure. Where ranks can be dispensed with, those that hang are.
func (r *running) endedWell() {
	if r.o.Dispensable != nil && !r.well {
		r.lenience = time.After(r.o.Lag)
	}
	r.well = true
}

// lenience is how long the others have to end by themselves after a failure that all ranks are told of.
const lenience = time.Second

// tell says which rank failed and what follows.
func (r *running) tell(e ending, follows string) {
	reason := e.text
	if e.err != nil {
		reason += fmt.Sprintf(" (%v)", e.err)
	}
	fmt.Fprintf(r.o.Stderr, "hfreduce launch: rank %d (pid %d) %s; %s\n", e.rank, e.cmd.Process.Pid, reason, follows)
}

// end asks all ranks to end and sets the time after which they are killed.
func (r *running) end() {
	r.signal(syscall.SIGTERM)
	r.kill = time.After(r.o.Grace)
}

// pass passes a signal on. A second one kills.
func (r *running) pass(s Signal) {
	if r.kill != nil {
		r.signal(syscall.SIGKILL)
		return
	}
	r.signal(s)
	if s == syscall.SIGINT || s == syscall.SIGTERM || s == syscall.SIGHUP {
		r.kill = time.After(r.o.Grace)
	}
}

func (r *running) signal(s Signal) {
	for _, p := range r.processes {
		p.signal(s)
	}
}
