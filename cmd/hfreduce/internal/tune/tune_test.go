// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func ask(t *testing.T, q Question, measure Measure) Answer {
	t.Helper()
	a, err := q.Ask(3, measure, func(int, int, string) {})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAskMeasuresAlike gives every round another speed: medians of a choice come from one and the same round.
func TestAskMeasuresAlike(t *testing.T) {
	q := Question{Title: "q", Sizes: []int64{1, 2}, Choices: []Choice{{"a", []string{"A=1"}}, {"b", []string{"B=1"}}}}
	calls, order := 0, ""
	a := ask(t, q, func(env []string, sizes []int64) (map[int64]float64, error) {
		speed := []float64{100, 1, 10}[calls/2]
		calls++
		order += env[0][:1]
		if env[0] == "B=1" {
			speed *= 2
		}
		return map[int64]float64{1: speed, 2: 3 * speed}, nil
	})
	if got := fmt.Sprint(a.Times); got != "[[10 30] [20 60]]" || order != "ABBAAB" {
		t.Errorf("times %v in order %s", got, order)
	}
	if c, mean := a.Best(); c != 0 || mean != 1 {
		t.Errorf("best is %d with %v", c, mean)
	}
	want := "# q: time of a call in us, * is the least\n        size            a             b \n" +
		"           1  10000000.00*  20000000.00 \n           2  30000000.00*  60000000.00 \n"
	if got := a.Table(); got != want {
		t.Errorf("got\n%s want\n%s", got, want)
	}
}

func TestBestWeighsSizesAlike(t *testing.T) {
	a := Answer{Question: Question{Sizes: []int64{1, 2}, Choices: make([]Choice, 3)}, Times: [][]float64{{1, 4000}, {1.5, 1500}, {4, 1000}}}
	if c, mean := a.Best(); c != 1 || mean != 1.5 {
		t.Errorf("best is %d with %v", c, mean)
	}
}

func TestThreshold(t *testing.T) {
	for _, c := range []struct {
		always []float64 // the other takes 100
		want   int64
	}{
		{[]float64{50, 60, 90, 120, 200}, 4}, {[]float64{110, 50, 50, 50, 50}, 0}, {[]float64{50, 103, 90, 120, 50}, 4},
		{[]float64{50, 50, 50, 50, 50}, 16}, {[]float64{50, 104, 104, 104, 106}, 1},
	} {
		a := Answer{Question: Question{Sizes: []int64{1, 2, 4, 8, 16}}, Times: [][]float64{c.always, {100, 100, 100, 100, 100}}}
		if got := a.Threshold(Always, Slack); got != c.want {
			t.Errorf("%v: threshold %d, want %d", c.always, got, c.want)
		}
	}
}

func TestAskFails(t *testing.T) {
	q := OnePassQuestion()
	broken := errors.New("broken")
	_, err := q.Ask(1, func([]string, []int64) (map[int64]float64, error) { return nil, broken }, func(int, int, string) {})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), OnePass) {
		t.Errorf("got %v", err)
	}
	_, err = q.Ask(1, func([]string, []int64) (map[int64]float64, error) { return nil, nil }, func(int, int, string) {})
	if err == nil || !strings.Contains(err.Error(), "no time for 1024 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestQuestions(t *testing.T) {
	for _, largest := range []int64{0, 1 << 20, 1 << 30} {
		q := PipelineQuestion(largest)
		if len(q.Sizes) == 0 || q.Sizes[len(q.Sizes)-1] != max(largest, 256*kib) || q.Sizes[0] < 256*kib || !slices.IsSorted(q.Sizes) || len(q.Choices) < 2 {
			t.Errorf("%d: %v", largest, q)
		}
	}
}
