// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
	"github.com/hfreduce/hfreduce/internal/golden"
)

// stepping returns a clock on which a millisecond passes from one look to the next.
func stepping() func() time.Duration {
	now := time.Duration(0)
	return func() time.Duration { now += time.Millisecond; return now }
}

// Reports with given figures. The machine, the backend in use and the version are not this one's.
func TestGoldenReports(t *testing.T) {
	c := DefaultConfig()
	c.Backends, c.Args, c.Rounds = []string{"generic", "avx512"}, []string{"hfreduce", "bench", "reduce"}, 3
	c.hooks.now = func() time.Time { return time.Date(2026, 11, 24, 12, 30, 59, 0, time.UTC) }
	m := machine{
		Model: "Some CPU", Caches: []cache{{1, 32 << 10}, {2, 1 << 20}, {3, 32 << 20}}, CPU: 3, Huge: "4 of 4 MiB",
		Go: "go1.0", OS: "linux", Arch: "amd64",
	}
	libc := yardstick{name: "memcpy (glibc 2.99)", short: "memcpy"}
	for name, copies := range map[string][]yardstick{"cgo": {libc, goCopy()}, "nocgo": {goCopy()}} {
		var table, document bytes.Buffer
		r := newReport(&c, Output{Table: &table, Document: &document, DocumentName: "out.json", Progress: noProgress{}}, m, copies)
		r.document.HFReduceVersion = "v0.0.0"
		rows := goldenRows()
		r.begin([]group{{cases: make([]subject, len(rows))}})
		for i := range rows {
			r.row(&rows[i])
		}
		r.limits(256<<20, [][]float64{{10, 11, 12, 13}, {20, 20.5, 21}}[:len(copies)])
		if err := r.finish(nil); err != nil {
			t.Fatal(err)
		}
		inUse, _ := kernel.Selected()
		text := strings.ReplaceAll(table.String(), "hfreduce version "+hfreduce.Version(), "hfreduce version v0.0.0")
		golden.Check(t, name+".txt", strings.ReplaceAll(text, "uses "+inUse.String()+" here", "uses avx512 here"))
		golden.Check(t, name+".json", document.String())
	}
}

func goldenRows() []row {
	a := subject{256 << 20, hfreduce.TypeBFloat16, Sum, 8, PlainOut, kernel.AVX512, true}
	b := subject{1 << 40, hfreduce.TypeFloat8E4M3, MulSum, 32, WideOut, kernel.Generic, false}
	c := subject{4 << 10, hfreduce.TypeInt8, Max, 2, SecondOut, kernel.AVX512, false}
	return []row{
		{subject: a, shape: a.shape(), figures: figures{[]float64{12, 11, 13}, []float64{10, 11, 12}}},
		{subject: b, shape: b.shape(), figures: figures{[]float64{0.7}, []float64{14}}},
		{subject: c, shape: c.shape(), err: errors.New("element 3 of the output has the bytes 01, the portable kernels give 02")},
	}
}
