// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math"
	"strconv"
)

// column formats a number of the table: two decimals, fewer the longer the number is, and an exponent when it is wider
// than the column. The limits are those of nccl-tests.
func column(v float64, width int) string {
	digits := digitsBefore(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return fmt.Sprintf("%*s", width, strconv.FormatFloat(v, 'g', -1, 64))
	case digits < width-2:
		return fmt.Sprintf("%*.2f", width, v)
	case digits < width-1:
		return fmt.Sprintf("%*.1f", width, v)
	case digits < width+1:
		return fmt.Sprintf("%*.0f", width, v)
	case width >= 7:
		return fmt.Sprintf("%*.1e", width, v)
	}
	return fmt.Sprintf("%*.0e", width, v)
}

// digitsBefore returns the number of digits before the decimal point, 0 for numbers below 1.
func digitsBefore(v float64) int {
	digits := 0
	for limit := 1.0; v >= limit && digits < 400; limit *= 10 {
		digits++
	}
	return digits
}

// general formats a number as C's %g does: at most six digits.
func general(v float64) string {
	switch {
	case math.IsNaN(v):
		return "nan"
	case math.IsInf(v, 1):
		return "inf"
	case math.IsInf(v, -1):
		return "-inf"
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}
