// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce"
	"pgregory.net/rapid"
)

// fill and mismatches agree with the pattern's own element by element.
func TestPeriodFillsWhatThePatternSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom(hfreduce.DataTypes()).Draw(t, "type")
		p := newPattern(d, rapid.SampledFrom([]Op{Sum, Max, None}).Draw(t, "op"), 3, tablePeriod)
		p.period = rapid.IntRange(1, 50).Draw(t, "period")
		table := p.inputs(1)
		index := rapid.Int64Range(0, 1<<40).Draw(t, "index")
		seed := rapid.IntRange(0, 1000).Draw(t, "seed")
		count := rapid.IntRange(0, 200).Draw(t, "count")
		b := make([]byte, count*d.Size())
		table.fill(b, index, seed)
		for i := range count {
			want := p.input(1, table.at(index+int64(i), seed))
			if got := get(b[i*d.Size():], d.Size()); got != want {
				t.Fatalf("element %d: %#x, want %#x", i, got, want)
			}
		}
		if n := table.mismatches(b, index, seed); n != 0 {
			t.Fatalf("%d mismatches of what fill wrote", n)
		}
		if count == 0 {
			return
		}
		spoiled := rapid.SliceOfNDistinct(rapid.IntRange(0, count-1), 1, count, rapid.ID[int]).Draw(t, "spoiled")
		for _, i := range spoiled {
			b[i*d.Size()+rapid.IntRange(0, d.Size()-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		}
		if n := table.mismatches(b, index, seed); n != int64(len(spoiled)) {
			t.Fatalf("%d mismatches, %d elements were changed", n, len(spoiled))
		}
	})
}

func TestAveragesMayBeOffByTwoUnits(t *testing.T) {
	d := hfreduce.TypeFloat32
	table := newPattern(d, Avg, 3, tablePeriod).results()
	b := make([]byte, 4*10)
	table.fill(b, 0, 0)
	for i, off := range []uint64{0, 1, 2, 3, 100} {
		put(b[4*i:], 4, get(b[4*i:], 4)+off)
	}
	if n := table.mismatches(b, 0, 0); n != 2 {
		t.Errorf("%d mismatches, want the 2 that are off by more than 2 units", n)
	}
}

func TestWindowGuards(t *testing.T) {
	a := area{bytes: make([]byte, 1000+2*guardBytes+8*3)}
	w := a.window(3, 100)
	w.guard()
	if w.damaged() {
		t.Fatal("damaged at once")
	}
	for i := range w.payload() {
		w.payload()[i] = 1
	}
	if w.damaged() {
		t.Fatal("the payload counts as guard")
	}
	for _, at := range []int64{w.from - 1, w.from - guardBytes, w.to, w.to + guardBytes - 1} {
		w.all[at]++
		if !w.damaged() {
			t.Errorf("byte %d: change not seen", at)
		}
		w.all[at]--
	}
}
