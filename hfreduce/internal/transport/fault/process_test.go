// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// walk runs collectives of two items each and returns what is done, as "call stage action".
func walk(s *Process, calls uint64) (done []string) {
	for call := uint64(1); call <= calls; call++ {
		for _, stage := range []string{"enter", "input", "input", "reduce", "reduce", "up", "up", "down", "down", "output", "output", "leave"} {
			if s != nil {
				s.At(call, stage, func(a Act) { done = append(done, fmt.Sprint(call, " ", stage, " ", a.Action)) })
			}
		}
	}
	return done
}

func TestProcess(t *testing.T) {
	for _, c := range []struct {
		text  string
		rank  int
		world bool
		want  string
	}{
		{"kill rank=2 call=3 stage=reduce", 2, true, "3 reduce kill"},
		{"kill rank=2 call=3 stage=reduce", 1, true, ""},
		{"kill rank=2 call=3 stage=reduce", 2, false, ""},
		{"kill rank=2 comm=other", 2, false, "1 enter kill"},
		{"stop rank=0-2 times=2 stage=down", 2, true, "1 down stop|1 down stop"},
		{"abort comm=any call=2-9 stage=leave", 7, true, "2 leave abort"},
		{"abort comm=any call=2-9 stage=leave", 7, false, "2 leave abort"},
		{"pause=1s stage=up", 0, true, "1 up pause|1 up pause|2 up pause|2 up pause|3 up pause|3 up pause"},
		{"pause=1s; abort call=2", 0, true, "1 enter pause|2 enter pause|2 enter abort|3 enter pause"},
		{"drop; delay=1s", 0, true, ""},
	} {
		got := strings.Join(walk(mustParse(t, c.text).Process(c.rank, c.world), 3), "|")
		if got != c.want {
			t.Errorf("%q, rank %d, world %v: %s, want %s", c.text, c.rank, c.world, got, c.want)
		}
	}
}

func TestProcessActs(t *testing.T) {
	s := mustParse(t, "drop; pause=3s rank=1 stage=output").Process(1, true)
	var got []Act
	s.At(1, "outside", func(a Act) { got = append(got, a) })
	s.At(1, "enter", func(a Act) { got = append(got, a) })
	s.At(1, "output", func(a Act) { got = append(got, a) })
	if want := []Act{{Pause, 3 * time.Second, 1, "pause=3s rank=1 stage=output comm=world"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestProcessChance: chance follows from the seed, and comes as often as it should.
func TestProcessChance(t *testing.T) {
	const calls = 500
	first := walk(mustParse(t, "pause=1s p=0.1 stage=reduce").Process(3, true), calls)
	if n := len(first); n < 50 || n > 200 {
		t.Errorf("%d of %d", n, 2*calls)
	}
	if again := walk(mustParse(t, "pause=1s p=0.1 stage=reduce").Process(3, true), calls); !slices.Equal(first, again) {
		t.Error("not the same with the same seed")
	}
	for _, other := range []struct {
		text string
		rank int
	}{{"seed=2; pause=1s p=0.1 stage=reduce", 3}, {"pause=1s p=0.1 stage=reduce", 4}} {
		if slices.Equal(first, walk(mustParse(t, other.text).Process(other.rank, true), calls)) {
			t.Errorf("%v: the same", other)
		}
	}
}

func TestNeedsProcesses(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"drop; pause=1s; abort":          "",
		"drop; kill rank=1; stop rank=0": "kill rank=1 stage=enter comm=world times=1",
		"stop rank=0":                    "stop rank=0 stage=enter comm=world times=1",
	} {
		if got := mustParse(t, text).NeedsProcesses(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
