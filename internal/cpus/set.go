// SPDX-License-Identifier: Apache-2.0

// Package cpus deals with sets of processors: which ones a process may use, how ranks share them, and binding.
package cpus

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Set is a set of processors by their numbers. It is comparable; the zero value is empty.
type Set string // processor i is bit i%8 of byte i/8; the last byte is not 0

// Of returns the set of the given processors. Negative numbers are left out.
func Of(numbers ...int) Set {
	var b []byte
	for _, n := range numbers {
		if n < 0 {
			continue
		}
		for n/8 >= len(b) {
			b = append(b, 0)
		}
		b[n/8] |= 1 << (n % 8)
	}
	return Set(b)
}

// Parse reads a list as the kernel writes it, such as "0-3,8".
func Parse(list string) (Set, error) {
	var b []byte
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		if part == "" {
			continue
		}
		lo, hi, isRange := strings.Cut(part, "-")
		if !isRange {
			hi = lo
		}
		first, err := strconv.Atoi(lo)
		last, lastErr := strconv.Atoi(hi)
		if err != nil || lastErr != nil || first < 0 || last < first || last >= maxNumber {
			return "", fmt.Errorf("cpus: %q is no list of processors such as 0-3,8", list)
		}
		if missing := last/8 + 1 - len(b); missing > 0 {
			b = append(b, make([]byte, missing)...)
		}
		for n := first; n <= last; n++ {
			b[n/8] |= 1 << (n % 8)
		}
	}
	return Set(b), nil
}

// maxNumber bounds what a list may name.
const maxNumber = 1 << 16

// Has reports whether processor n is in the set.
func (s Set) Has(n int) bool { return n >= 0 && n/8 < len(s) && s[n/8]>>(n%8)&1 == 1 }

// Count returns the number of processors.
func (s Set) Count() int {
	n := 0
	for i := range len(s) {
		n += bits.OnesCount8(s[i])
	}
	return n
}

// Numbers lists the processors, ascending.
func (s Set) Numbers() []int {
	var all []int
	for n := range 8 * len(s) {
		if s.Has(n) {
			all = append(all, n)
		}
	}
	return all
}

// Union returns the processors of either set, Intersection those of both.
func (s Set) Union(t Set) Set { return Of(append(s.Numbers(), t.Numbers()...)...) }

// Intersection returns the processors that are in both sets.
func (s Set) Intersection(t Set) Set {
	var both []int
	for _, n := range s.Numbers() {
		if t.Has(n) {
			both = append(both, n)
		}
	}
	return Of(both...)
}

// String writes the set as the kernel does: "0-3,8"; "none" if it is empty.
func (s Set) String() string {
	var b strings.Builder
	numbers := s.Numbers()
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, numbers[i])
		if j > i {
			fmt.Fprintf(&b, "-%d", numbers[j])
		}
		i = j + 1
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

// Share returns what the i-th of n gets when they share s: an equal number of processors each, neighbours, as far as that
// comes out even; where there are fewer processors than sharers, one each, dealt out in turn.
func (s Set) Share(i, n int) Set {
	numbers := s.Numbers()
	if len(numbers) == 0 || n <= 0 {
		return s
	}
	if n > len(numbers) {
		return Of(numbers[i%len(numbers)])
	}
	return Of(numbers[i*len(numbers)/n : (i+1)*len(numbers)/n]...)
}
