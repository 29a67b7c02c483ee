// SPDX-License-Identifier: Apache-2.0

package kernelbench

import "math/rand/v2"

// figures are the samples of one task over the rounds.
type figures struct {
	rates  []float64 // GB/s
	limits []float64 // GB/s of the yardstick next to each
}

// ratios divides each sample by its limit.
func (f figures) ratios() []float64 {
	all := make([]float64, len(f.rates))
	for i := range all {
		all[i] = f.rates[i] / f.limits[i]
	}
	return all
}

// orders returns a random order of n tasks for each round.
func orders(rounds, n int, seed uint64) [][]int {
	random := rand.New(rand.NewPCG(seed, uint64(n)))
	all := make([][]int, rounds)
	for i := range all {
		all[i] = random.Perm(n)
	}
	return all
}

// interleave samples n tasks in the given order of each round, and the limit before and after each task. It returns the
// figures of each task, and all of the limit. It ends early where measure returns an error.
func interleave(orders [][]int, n int, measure func(task int) (float64, error), limit func() float64) ([]figures, []float64, error) {
	tasks, limits := make([]figures, n), []float64(nil)
	for _, order := range orders {
		limits = append(limits, limit())
		for _, i := range order {
			rate, err := measure(i)
			if err != nil {
				return nil, nil, err
			}
			before := limits[len(limits)-1]
			limits = append(limits, limit())
			tasks[i].rates = append(tasks[i].rates, rate)
			tasks[i].limits = append(tasks[i].limits, (before+limits[len(limits)-1])/2)
		}
	}
	return tasks, limits, nil
}
