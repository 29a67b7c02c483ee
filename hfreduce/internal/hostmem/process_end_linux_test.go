// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// waitEnd returns what Wait does, on a channel.
func waitEnd(p *Process) chan bool {
	ended := make(chan bool, 1)
	go func() { ended <- p.Wait() }()
	return ended
}

func expectEnd(t *testing.T, what string, ended chan bool, want bool) {
	t.Helper()
	select {
	case got := <-ended:
		if got != want {
			t.Errorf("%s: Wait returned %t, want %t", what, got, want)
		}
	case <-time.After(patience):
		t.Errorf("%s: Wait did not return", what)
	}
}

// TestProcessEnd kills a process. The others have its end from member 0, whichever of them it is, and a living one's has not
// come.
func TestProcessEnd(t *testing.T) {
	checkDescriptors(t)
	c := config(4)
	c.Bytes, c.ArenaBytes = childBytes, 1<<38
	victim := start(t, "share", c.Name, 1, 4)
	living := start(t, "share", c.Name, 2, 4)
	here := []<-chan joined{join(testContext(t), c, 0), join(testContext(t), c, 3)}
	var segments []*Segment
	for _, j := range here {
		r := <-j
		if r.err != nil {
			t.Fatal(r.err)
		}
		segments = append(segments, r.segment)
	}
	victim.hear(t, "written")
	living.hear(t, "written")
	for i, s := range segments {
		who := fmt.Sprintf("segment %d", i)
		var held []*Process
		var ends []chan bool
		for m := range 4 {
			p := s.TakeProcess(m)
			if p == nil {
				t.Fatalf("%s: the process of member %d is not known", who, m)
			}
			if s.TakeProcess(m) != nil {
				t.Errorf("%s: the process of member %d can be taken twice", who, m)
			}
			held, ends = append(held, p), append(ends, waitEnd(p))
		}
		victim.kill()
		expectEnd(t, who+", the victim", ends[1], true)
		for m, p := range held {
			select {
			case ended := <-ends[m]:
				t.Errorf("%s: of the living member %d Wait returned %t", who, m, ended)
			default:
			}
			p.Close()
		}
		for _, m := range []int{0, 2, 3} {
			expectEnd(t, who+", closed", ends[m], false)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	living.kill()
}

// TestUntakenProcesses: what nobody takes is closed with the segment, and one process has none.
func TestUntakenProcesses(t *testing.T) {
	checkDescriptors(t)
	c := config(3)
	var all []<-chan joined
	for i := range 3 {
		all = append(all, join(testContext(t), c, i))
	}
	collect(t, all)
	for _, s := range NewLocal(2, 4096, 0) {
		if p := s.TakeProcess(1); p != nil {
			t.Error("members of NewLocal have processes")
		}
		_ = s.Close()
	}
}

// TestTakeProcesses: a set that does not fit the descriptors is refused, and nothing of it is left open.
func TestTakeProcesses(t *testing.T) {
	checkDescriptors(t)
	for _, c := range []struct {
		set   []int
		count int
		fits  bool
	}{{nil, 0, true}, {[]int{1}, 1, true}, {[]int{0, 2}, 2, true}, {[]int{0, 2}, 1, false}, {nil, 1, false}, {[]int{200}, 1, false}} {
		var m bitmap
		for _, i := range c.set {
			m.add(i)
		}
		var fds []int
		for range c.count {
			fd, err := unix.PidfdOpen(unix.Getpid(), 0)
			if err != nil {
				t.Fatal(err)
			}
			fds = append(fds, fd)
		}
		all, err := takeProcesses(&m, fds, 3)
		if (err == nil) != c.fits {
			t.Errorf("%v with %d descriptors: %v", c.set, c.count, err)
		}
		for i, p := range all {
			if (p != nil) != slices.Contains(c.set, i) {
				t.Errorf("%v: member %d has process %v", c.set, i, p)
			}
		}
		closeProcesses(all)
	}
}
