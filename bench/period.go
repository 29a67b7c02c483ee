// SPDX-License-Identifier: Apache-2.0

package bench

import "bytes"

// period is one period of a pattern's elements in memory.
type period struct {
	data   []byte
	size   int    // bytes of an element
	ulps   uint64 // tolerance of mismatches
	length int    // elements
}

// inputs returns the period of a rank's inputs.
func (p *pattern) inputs(rank int) period {
	return p.tabulate(0, func(i int) uint64 { return p.input(rank, i) })
}

// results returns the period of the results.
func (p *pattern) results() period { return p.tabulate(p.tolerance(), p.result) }

func (p *pattern) tabulate(ulps uint64, element func(i int) uint64) period {
	t := period{data: make([]byte, p.period*p.bits/8), size: p.bits / 8, ulps: ulps, length: p.period}
	for i := range p.period {
		put(t.data[i*t.size:], t.size, element(i))
	}
	return t
}

// seedStep is by how many elements a seed moves the pattern; no small multiple of it is near a multiple of the period.
const seedStep = 3001

// at returns where in the period the element with this index and seed lies.
func (t *period) at(index int64, seed int) int {
	n := int64(t.length)
	return int((index%n + int64(seed)%n*seedStep) % n)
}

// fill writes whole elements from the given index on.
func (t *period) fill(dst []byte, index int64, seed int) {
	for from := t.at(index, seed) * t.size; len(dst) > 0; from = 0 {
		dst = dst[copy(dst, t.data[from:]):]
	}
}

// mismatches counts the elements that are not those from the given index on.
func (t *period) mismatches(got []byte, index int64, seed int) int64 {
	wrong := int64(0)
	for from := t.at(index, seed) * t.size; len(got) > 0; from = 0 {
		n := min(len(got), len(t.data)-from)
		wrong += t.compare(got[:n], t.data[from:from+n])
		got = got[n:]
	}
	return wrong
}

// compare counts the elements that differ by more than the tolerance.
func (t *period) compare(got, want []byte) int64 {
	if bytes.Equal(got, want) {
		return 0
	}
	wrong := int64(0)
	for i := 0; i < len(want); i += t.size {
		g, w := get(got[i:], t.size), get(want[i:], t.size)
		if g != w && (t.ulps == 0 || units(g, w, 8*t.size) > t.ulps) {
			wrong++
		}
	}
	return wrong
}
