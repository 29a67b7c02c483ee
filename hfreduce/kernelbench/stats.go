// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"math"
	"slices"
)

// quartiles are the first, the median and the third of some figures.
type quartiles struct{ low, median, high float64 }

// quartilesOf returns the quartiles of at least one figure, interpolated between the two next to each.
func quartilesOf(figures []float64) quartiles {
	sorted := slices.Sorted(slices.Values(figures))
	at := func(share float64) float64 {
		position := share * float64(len(sorted)-1)
		below := int(position)
		above := min(below+1, len(sorted)-1)
		return sorted[below] + (position-float64(below))*(sorted[above]-sorted[below])
	}
	return quartiles{at(0.25), at(0.5), at(0.75)}
}

// spread returns half the distance between the quartiles in percent of the median.
func (q quartiles) spread() float64 {
	if q.median == 0 {
		return math.NaN()
	}
	return 50 * (q.high - q.low) / q.median
}
