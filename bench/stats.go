// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"slices"
)

// iterStats are the statistics of the times of iterations, in the unit of the times.
type iterStats struct {
	min, max, mean, p50, p95, p99, stdev float64
}

// statsOf returns the statistics of at least one time. Percentiles are nearest-rank: p99 of fewer than 100 times is the
// maximum. The standard deviation is that of the population.
func statsOf(times []float64) iterStats {
	sorted := slices.Sorted(slices.Values(times))
	n := len(sorted)
	s := iterStats{
		min: sorted[0], max: sorted[n-1],
		p50: sorted[n/2], p95: sorted[nearestRank(n, 95)], p99: sorted[nearestRank(n, 99)],
	}
	for _, t := range sorted {
		s.mean += t / float64(n)
	}
	variance := 0.0
	for _, t := range sorted {
		variance += (t - s.mean) * (t - s.mean) / float64(n)
	}
	s.stdev = math.Sqrt(variance)
	return s
}

// nearestRank returns the index of a percentile among n sorted values.
func nearestRank(n, percent int) int { return min(n, (n*percent+99)/100) - 1 }

// variation returns the coefficient of variation in percent.
func (s iterStats) variation() float64 {
	if s.mean <= 0 {
		return 0
	}
	return s.stdev / s.mean * 100
}
