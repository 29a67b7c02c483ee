// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"fmt"
	"math"
	"strings"
)

// row is a line of the table: a case and what was measured.
type row struct {
	subject
	shape   shape
	figures figures
	err     error // the kernel is wrong and was not measured
}

// tableHead returns the two lines above the table. limit is what the yardstick is called.
func tableHead(limit string) string {
	return fmt.Sprintf("# %11s  %8s  %6s  %7s  %7s  %6s  %6s  %8s  %8s  %6s\n", "working set", "type", "redop", "sources", "backend", "stores", "out", "traffic", "x "+limit, "spread") +
		fmt.Sprintf("# %11s  %8s  %6s  %7s  %7s  %6s  %6s  %8s  %8s  %6s\n", "(B)", "", "", "", "", "", "", "(GB/s)", "", "(+-%)")
}

// line returns a row as a line of the table.
func (r *row) line() string {
	speed, ratio, spread := "wrong", "N/A", "N/A"
	if r.err == nil {
		q := quartilesOf(r.figures.ratios())
		speed, ratio = fmt.Sprintf("%.2f", quartilesOf(r.figures.rates).median), fmt.Sprintf("%.3f", q.median)
		spread = percent(q, len(r.figures.rates))
	}
	return fmt.Sprintf("  %11d  %8s  %6s  %7d  %7s  %6s  %6s  %8s  %8s  %6s\n", r.size, r.dtype, r.op, r.sources, r.backend, r.stores(), r.variant, speed, ratio, spread)
}

// percent writes a spread; one sample has none.
func percent(q quartiles, samples int) string {
	if spread := q.spread(); samples > 1 && !math.IsNaN(spread) {
		return fmt.Sprintf("%.1f", spread)
	}
	return "N/A"
}

// limitLine returns the line on a working set's limits, the samples of each yardstick.
func limitLine(size int64, copies []yardstick, samples [][]float64) string {
	var texts []string
	for i, y := range copies {
		if len(samples[i]) == 0 {
			continue
		}
		q := quartilesOf(samples[i])
		texts = append(texts, fmt.Sprintf("%s %.2f GB/s +-%s%%", y.name, q.median, percent(q, len(samples[i]))))
	}
	return fmt.Sprintf("# limit at %d B: %s\n", size, strings.Join(texts, ", "))
}
