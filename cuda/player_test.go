// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
)

// script is a stage: it notes what it is given, and its events are done when the test says so.
type script struct {
	given  []string
	made   Event
	open   map[Event]bool // events that exist: true when recorded and not done
	asked  []Event
	refuse int // give fails at this command of all, counted from 1
	broken error
}

func newScript() *script { return &script{open: map[Event]bool{}} }

func (s *script) give(list []command, f features) (int, error) {
	for i, c := range list {
		if s.refuse == len(s.given)+1 {
			return i, errRefused
		}
		if c.op == opWrite || c.op == opWait || f != 0 {
			return i, errors.New("a memory operation was given")
		}
		line := fmt.Sprintf("%d:%d", c.stream, c.dst)
		if _, ours := s.open[Event(c.dst)]; ours && c.op == opRecord {
			s.open[Event(c.dst)] = true
			line = fmt.Sprintf("%d:write", c.stream)
		}
		s.given = append(s.given, line)
	}
	return len(list), nil
}

var errRefused = errors.New("refused")

func (s *script) NewEvent(timing bool) (Event, error) {
	s.made++
	s.open[1000+s.made] = false
	return 1000 + s.made, s.broken
}

func (s *script) DestroyEvent(e Event) error {
	delete(s.open, e)
	return nil
}

func (s *script) QueryEvent(e Event) (bool, error) {
	s.asked = append(s.asked, e)
	return !s.open[e], s.broken
}

// finish lets all recorded events be done.
func (s *script) finish() {
	for e := range s.open {
		s.open[e] = false
	}
}

// advance advances and checks whether that moved anything, and what was given since.
func advance(t *testing.T, p *Player, s *script, moved bool, given ...string) {
	t.Helper()
	before := len(s.given)
	got, err := p.Advance()
	if err != nil || got != moved || !slices.Equal(s.given[before:], given) {
		t.Errorf("moved %t, given %q, %v; want %t, %q", got, s.given[before:], err, moved, given)
	}
}

func word() Word { return Word{Host: new(uint32), Device: 0x100} }

func TestPlayerWaitsAndWrites(t *testing.T) {
	s := newScript()
	p := &Player{on: s}
	in, out := word(), word()
	var c Commands
	c.Copy(7, 1, 0, 8, ToHost)
	c.Write(7, out, 5)
	c.Wait(7, in, 3)
	c.Copy(7, 2, 0, 8, ToDevice)
	p.Add(&c)
	c.Reset() // the player has a copy
	if p.Added() != 4 || p.Issued() != 0 || p.Idle() {
		t.Errorf("added %d, issued %d, idle %t", p.Added(), p.Issued(), p.Idle())
	}
	advance(t, p, s, true, "7:1", "7:write")
	advance(t, p, s, false)
	if p.Issued() != 2 || *out.Host != 0 {
		t.Errorf("issued %d, the word is %d", p.Issued(), *out.Host)
	}
	s.finish()
	advance(t, p, s, true)
	if *out.Host != 5 || p.Idle() {
		t.Errorf("the word is %d, idle %t", *out.Host, p.Idle())
	}
	atomic.StoreUint32(in.Host, 2)
	advance(t, p, s, false)
	atomic.StoreUint32(in.Host, 4) // beyond what was waited for
	advance(t, p, s, true, "7:2")
	if p.Issued() != 4 || !p.Idle() {
		t.Errorf("issued %d, idle %t", p.Issued(), p.Idle())
	}
	closePlayer(t, p, s)
}

func closePlayer(t *testing.T, p *Player, s *script) {
	t.Helper()
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(s.open) != 0 {
		t.Errorf("%d events were not given back", len(s.open))
	}
	if _, err := p.Advance(); err == nil {
		t.Error("a closed player advances")
	}
}

// TestPlayerWaitIsCyclic: a counter that wraps has come to values before the wrap.
func TestPlayerWaitIsCyclic(t *testing.T) {
	for _, c := range []struct {
		word, value uint32
		want        bool
	}{{0, 0, true}, {0, 1, false}, {1, 0, true}, {5, 0xfffffff0, true}, {0xfffffff0, 5, false}, {1 << 31, 0, false}, {1<<31 - 1, 0, true}} {
		if got := reached(c.word, c.value); got != c.want {
			t.Errorf("word %#x, value %#x: reached is %t", c.word, c.value, got)
		}
	}
}

// TestPlayerStreams: a stream that is held back holds no other one, except by an event that is recorded on it.
func TestPlayerStreams(t *testing.T) {
	s := newScript()
	p := &Player{on: s}
	hold := word()
	var c Commands
	c.Wait(1, hold, 1)
	c.Record(50, 1)
	c.Copy(2, 10, 0, 8, Any)
	c.WaitEvent(2, 50) // needs the record on stream 1
	c.Copy(2, 11, 0, 8, Any)
	c.Copy(3, 12, 0, 8, Any)
	c.WaitEvent(3, 51)
	c.Record(50, 3) // must not come before the wait for the first record
	c.Copy(3, 13, 0, 8, Any)
	p.Add(&c)
	advance(t, p, s, true, "2:10", "3:12", "3:51")
	if p.Issued() != 0 {
		t.Errorf("issued %d before the first wait is over", p.Issued())
	}
	*hold.Host = 1
	advance(t, p, s, true, "1:50", "2:50", "2:11", "3:50", "3:13")
	if p.Issued() != 9 || !p.Idle() {
		t.Errorf("issued %d, idle %t", p.Issued(), p.Idle())
	}
	closePlayer(t, p, s)
}

// TestPlayerAsksLastFirst: of two writes the one behind must not be seen as done before the one in front.
func TestPlayerAsksLastFirst(t *testing.T) {
	s := newScript()
	p := &Player{on: s}
	a, b := word(), word()
	var c Commands
	c.Write(1, a, 1)
	c.Write(2, b, 1)
	p.Add(&c)
	advance(t, p, s, true, "1:write", "2:write")
	advance(t, p, s, false)
	if !slices.Equal(s.asked, []Event{1002, 1001}) {
		t.Errorf("asked %v", s.asked)
	}
	s.open[1002] = false
	advance(t, p, s, true)
	if *a.Host != 0 || *b.Host != 1 {
		t.Errorf("the words are %d and %d", *a.Host, *b.Host)
	}
	s.finish()
	advance(t, p, s, true)
	p.Add(&c) // the events are used again
	advance(t, p, s, true, "1:write", "2:write")
	if s.made != 2 || *a.Host != 1 {
		t.Errorf("made %d events, the word is %d", s.made, *a.Host)
	}
	closePlayer(t, p, s)
}

func TestPlayerErrors(t *testing.T) {
	s := newScript()
	s.refuse = 2
	p := &Player{on: s}
	w := word()
	var c Commands
	c.Write(1, w, 1)
	c.Copy(1, 10, 0, 8, Any)
	c.Write(1, w, 2)
	p.Add(&c)
	for range 2 {
		if moved, err := p.Advance(); moved || !errors.Is(err, errRefused) {
			t.Errorf("moved %t, %v", moved, err)
		}
	}
	if len(s.given) != 1 {
		t.Errorf("given %q after the error", s.given)
	}
	closePlayer(t, p, s)

	s = newScript()
	p = &Player{on: s}
	p.Add(&c)
	advance(t, p, s, true, "1:write", "1:10", "1:write")
	s.broken = errors.New("context lost")
	if _, err := p.Advance(); !errors.Is(err, s.broken) || *w.Host != 0 {
		t.Errorf("error %v, the word is %d", err, *w.Host)
	}
	closePlayer(t, p, s)
}

// TestPlayerKeepsOrder plays random lists and checks the order of each stream, and that all is issued in the end.
func TestPlayerKeepsOrder(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		s := newScript()
		p := &Player{on: s}
		var c Commands
		want := map[Stream][]string{}
		holds := []Word{word(), word(), word()}
		for i := range 40 {
			stream := Stream(1 + random.IntN(4))
			switch random.IntN(3) {
			case 0:
				c.Wait(stream, holds[random.IntN(len(holds))], 1)
			case 1:
				c.Write(stream, word(), 1)
				want[stream] = append(want[stream], fmt.Sprintf("%d:write", stream))
			default:
				c.Copy(stream, Ptr(100+i), 0, 8, Any)
				want[stream] = append(want[stream], fmt.Sprintf("%d:%d", stream, 100+i))
			}
		}
		p.Add(&c)
		for _, hold := range append(holds, word()) {
			if _, err := p.Advance(); err != nil {
				t.Fatal(err)
			}
			*hold.Host = 1
		}
		s.finish()
		if _, err := p.Advance(); err != nil || !p.Idle() || p.Issued() != 40 {
			t.Fatalf("seed %d: idle %t, issued %d, %v", seed, p.Idle(), p.Issued(), err)
		}
		got := map[Stream][]string{}
		for _, line := range s.given {
			stream := Stream(line[0] - '0')
			got[stream] = append(got[stream], line)
		}
		for stream, lines := range want {
			if !slices.Equal(got[stream], lines) {
				t.Fatalf("seed %d: stream %d got %q, want %q", seed, stream, got[stream], lines)
			}
		}
		closePlayer(t, p, s)
	}
}

// TestPlayerAllocatesNothing in the steady state.
func TestPlayerAllocatesNothing(t *testing.T) {
	s := newScript()
	p := &Player{on: &quiet{s}}
	w := word()
	var c Commands
	play := func() {
		c.Reset()
		c.Write(1, w, 1)
		c.Copy(1, 10, 0, 8, Any)
		c.Wait(1, w, 1)
		c.Record(9, 1)
		c.WaitEvent(2, 9)
		p.Add(&c)
		for !p.Idle() {
			if _, err := p.Advance(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := testing.AllocsPerRun(100, play); n != 0 {
		t.Errorf("%v allocations", n)
	}
	closePlayer(t, p, s)
}

// quiet is a stage that does everything at once and notes nothing.
type quiet struct{ *script }

func (q *quiet) give(list []command, _ features) (int, error) { return len(list), nil }

func (q *quiet) QueryEvent(Event) (bool, error) { return true, nil }
