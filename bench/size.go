// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
)

// ParseSize reads a number of bytes as nccl-tests does: a decimal number, possibly with a fraction, and the suffix K, M
// or G in either case for 2^10, 2^20 and 2^30 ("KB" and "KiB" mean the same). What remains below one byte is dropped.
func ParseSize(s string) (int64, error) {
	number, unit := cutUnit(s)
	if strings.ContainsAny(number, "xXpP_nNiI") { // ParseFloat also takes hexadecimal numbers, "inf" and "nan"
		return 0, sizeError(s)
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || v < 0 || v*unit >= math.MaxInt64 {
		return 0, sizeError(s)
	}
	return int64(v * unit), nil
}

// cutUnit splits the suffix from a size.
func cutUnit(s string) (number string, unit float64) {
	for i, letters := range [...]string{"kK", "mM", "gG"} {
		at := strings.LastIndexAny(s, letters)
		if at < 0 {
			continue
		}
		if rest := s[at+1:]; rest != "" && rest != "B" && rest != "iB" {
			break
		}
		return strings.TrimSpace(s[:at]), float64(int64(1) << (10 * (i + 1)))
	}
	return s, 1
}

func sizeError(s string) error {
	return fmt.Errorf("%q is not a size; give bytes with an optional suffix K, M or G, such as 8, 64K or 1.5G", s)
}

// sweep yields the sizes from low to high in bytes: multiplied by factor if that is above 1, else increased by step. It
// ends after one size where neither would make progress.
func sweep(low, high, step, factor int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for size := low; size <= high; {
			if !yield(size) {
				return
			}
			next := size + step
			if factor > 1 {
				next = size * factor
				if size > math.MaxInt64/factor {
					return
				}
			}
			if next <= size { // also an overflow
				return
			}
			size = next
		}
	}
}

// Sizes yields the sizes that a run measures, in bytes, in order.
func (c *Config) Sizes() iter.Seq[int64] {
	return sweep(c.MinBytes, c.MaxBytes, c.StepBytes, c.StepFactor)
}

// warmupSizes yields the sizes of the warm-up: doubling, whatever the steps of the sweep are. What is nothing does not double.
func (c *Config) warmupSizes() iter.Seq[int64] {
	return sweep(max(c.MinBytes, min(1, c.MaxBytes)), c.MaxBytes, 0, 2)
}
