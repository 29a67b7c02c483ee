// SPDX-License-Identifier: Apache-2.0

// Package tune finds out which settings of the library suit a machine: it runs the same benchmark with each of them, in
// turns, and compares.
package tune

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Choice is one value of the settings under test, as environment variables, by name.
type Choice struct {
	Name string   // in the table
	Env  []string // "HFREDUCE_...=..."
}

// Question is a choice among settings, asked at some sizes.
type Question struct {
	Title   string
	Sizes   []int64 // ascending
	Choices []Choice
}

// Measure runs the benchmark once and returns the time of a call in seconds at each of the sizes.
type Measure func(env []string, sizes []int64) (map[int64]float64, error)

// Answer is what was measured: times in seconds by choice and size, medians of the rounds.
type Answer struct {
	Question
	Times [][]float64
}

// Ask measures all choices of a question in every round, each round in another order, so that what the machine does
// meanwhile meets all of them alike. step is called before each measurement.
func (q Question) Ask(rounds int, measure Measure, step func(done, total int, what string)) (Answer, error) {
	samples := make([][][]float64, len(q.Choices)) // by choice, size and round
	for c := range samples {
		samples[c] = make([][]float64, len(q.Sizes))
	}
	for round := range rounds {
		for i := range q.Choices {
			c := (i + round) % len(q.Choices)
			step(round*len(q.Choices)+i, rounds*len(q.Choices), q.Choices[c].Name)
			times, err := measure(q.Choices[c].Env, q.Sizes)
			if err != nil {
				return Answer{}, fmt.Errorf("%s with %s: %w", q.Title, strings.Join(q.Choices[c].Env, " "), err)
			}
			for s, size := range q.Sizes {
				t, ok := times[size]
				if !ok {
					return Answer{}, fmt.Errorf("%s with %s: no time for %d bytes", q.Title, strings.Join(q.Choices[c].Env, " "), size)
				}
				samples[c][s] = append(samples[c][s], t)
			}
		}
	}
	a := Answer{Question: q}
	for c := range samples {
		a.Times = append(a.Times, make([]float64, len(q.Sizes)))
		for s := range q.Sizes {
			a.Times[c][s] = median(samples[c][s])
		}
	}
	return a, nil
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// Best returns the choice with the least geometric mean of its times, over all sizes, in relation to the best time at each
// size; and that mean, 1 for a choice that is best everywhere.
func (a *Answer) Best() (choice int, mean float64) {
	mean = math.Inf(1)
	for c := range a.Choices {
		log := 0.0
		for s := range a.Sizes {
			log += math.Log(a.Times[c][s] / a.least(s))
		}
		if m := math.Exp(log / float64(len(a.Sizes))); m < mean {
			choice, mean = c, m
		}
	}
	return choice, mean
}

func (a *Answer) least(size int) float64 {
	least := math.Inf(1)
	for c := range a.Choices {
		least = min(least, a.Times[c][size])
	}
	return least
}

// Threshold returns the largest size up to which choice c is not slower than the other of two, 0 if it is at the first one.
// A slower size followed by a faster one is taken for noise if it is slower by less than slack.
func (a *Answer) Threshold(c int, slack float64) int64 {
	last := int64(0)
	for s, size := range a.Sizes {
		switch mine, other := a.Times[c][s], a.Times[1-c][s]; {
		case mine <= other:
			last = size
		case mine > other*(1+slack):
			return last
		}
	}
	return last
}

// Table writes the answer in microseconds, a line for each size, the best time marked.
func (a *Answer) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: time of a call in us, * is the least\n%12s", a.Title, "size")
	for _, c := range a.Choices {
		fmt.Fprintf(&b, " %12s ", c.Name)
	}
	b.WriteByte('\n')
	for s, size := range a.Sizes {
		fmt.Fprintf(&b, "%12d", size)
		for c := range a.Choices {
			mark := ' '
			if a.Times[c][s] == a.least(s) {
				mark = '*'
			}
			fmt.Fprintf(&b, " %12.2f%c", a.Times[c][s]*1e6, mark)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
