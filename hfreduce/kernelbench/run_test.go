// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// steps counts what progress is told.
type steps struct{ steps, total int }

func (s *steps) Step(done, total int, _ string) { s.steps, s.total = s.steps+1, total }
func (s *steps) Hide()                          {}

// quick is a configuration that takes milliseconds.
func quick() Config {
	c := DefaultConfig()
	c.Types, c.Sources, c.Sizes, c.Rounds = []hfreduce.DataType{hfreduce.TypeFloat32}, []int{2}, []int64{64 << 10}, 1
	return c
}

// parsed is what tests look at in the document.
type parsed struct {
	Limits []struct {
		WorkingSet int64                    `json:"working_set"`
		Traffic    struct{ Median float64 } `json:"traffic_gbps"`
	}
	Results []struct {
		Type, Error string
		Traffic     *struct {
			Median  float64
			Samples []float64
		} `json:"traffic_gbps"`
		Ratio *struct{ Median float64 }
	}
	Wrong  int
	Errors []string
}

func runOn(t *testing.T, ctx context.Context, c Config) (Summary, string, parsed, error) {
	t.Helper()
	var table, document bytes.Buffer
	summary, err := Run(ctx, c, Output{Table: &table, Document: &document, DocumentName: "x.json"})
	var p parsed
	if document.Len() > 0 {
		if err := json.Unmarshal(document.Bytes(), &p); err != nil {
			t.Fatalf("%v in %s", err, document.String())
		}
	}
	return summary, table.String(), p, err
}

var anyRow = regexp.MustCompile(`(?m)^ +\d+ +\w+ +\w+ +\d+ +\w+ +\w+ +\w+ +(\d+\.\d\d|wrong) +(\d+\.\d\d\d|N/A) +(\d+\.\d|N/A)$`)

// wrongLine says what is wrong with a kernel.
var wrongLine = regexp.MustCompile(`(?m)^# wrong: .*$`)

func TestRun(t *testing.T) {
	summary, table, document, err := runOn(t, t.Context(), quick())
	if err != nil {
		t.Fatal(err)
	}
	cases := 2*len(Backends()) - 1 // plain and stream, but for the portable backend
	if rows := anyRow.FindAllString(table, -1); len(rows) != cases || summary != (Summary{Measured: cases}) {
		t.Errorf("%d rows and %+v, want %d:\n%s", len(rows), summary, cases, table)
	}
	for _, want := range []string{"# machine: ", "# backends: generic", "# limit at 65536 B: ", "rounds: 1", "# Writing JSON output to x.json"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	if len(document.Results) != cases || len(document.Limits) != len(yardsticks()) || document.Wrong != 0 || len(document.Errors) != 0 {
		t.Fatalf("document %+v", document)
	}
	for _, r := range document.Results {
		if r.Traffic == nil || !(r.Traffic.Median > 0) || len(r.Traffic.Samples) != 1 || r.Ratio == nil || !(r.Ratio.Median > 0) {
			t.Errorf("result %+v", r)
		}
	}
	for _, l := range document.Limits {
		if l.WorkingSet != 64<<10 || !(l.Traffic.Median > 0) {
			t.Errorf("limit %+v", l)
		}
	}
}

// Every case of every backend that this machine has is right and can be measured.
func TestRunEverything(t *testing.T) {
	c := everything()
	c.Sizes, c.Sources, c.Rounds, c.CPU = []int64{40_000}, []int{1, 5}, 1, AnyCPU
	c.hooks.clock = stepping()
	var table bytes.Buffer
	var progress steps
	summary, err := Run(t.Context(), c, Output{Table: &table, Progress: &progress})
	if err != nil || summary.Wrong != 0 || summary.Measured != progress.steps || progress.steps != progress.total {
		t.Errorf("%+v, %v, %d of %d steps:\n%s", summary, err, progress.steps, progress.total, strings.Join(wrongLine.FindAllString(table.String(), -1), "\n"))
	}
}

// A kernel that writes too little, or wrongly, has no figure.
func TestWrongKernelsAreFound(t *testing.T) {
	for name, wrong := range map[string]func(dst, dst2 []byte){
		"last element of the output":  func(dst, _ []byte) { dst[len(dst)-1] ^= 0x80 },
		"first element of the second": func(_, dst2 []byte) { dst2[0] ^= 1 },
		"not written":                 func(dst, _ []byte) { clear(dst[4096:8192]) },
	} {
		c := quick()
		c.Variants, c.Backends, c.Stores = []Variant{SecondOut}, []string{"generic"}, PlainStores
		c.Types = []hfreduce.DataType{hfreduce.TypeFloat32, hfreduce.TypeInt8}
		c.hooks.reduce = func(s kernel.Spec, b kernel.Backend, dst, dst2 []byte, srcs [][]byte, scales []float64) {
			s.ReduceOn(b, dst, dst2, srcs, scales)
			if s.DType == kernel.Float32 {
				wrong(dst, dst2)
			}
		}
		summary, table, document, err := runOn(t, t.Context(), c)
		if err != nil || summary != (Summary{Measured: 1, Wrong: 1}) {
			t.Fatalf("%s: %+v, %v", name, summary, err)
		}
		if !strings.Contains(table, "# wrong: 65536 B float sum of 2, generic plain, second output: element ") {
			t.Errorf("%s: the table does not tell:\n%s", name, table)
		}
		if r := document.Results; document.Wrong != 1 || r[0].Error == "" || r[0].Traffic != nil || r[1].Traffic == nil {
			t.Errorf("%s: document %+v", name, document)
		}
	}
}

func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, table, document, err := runOn(t, ctx, quick())
	if !errors.Is(err, context.Canceled) || !strings.Contains(table, "# error: ") || len(document.Errors) != 1 {
		t.Errorf("%v, %+v:\n%s", err, document, table)
	}
	broken := errors.New("disk full")
	if _, err := Run(t.Context(), quick(), Output{Table: failing{broken}}); !errors.Is(err, broken) {
		t.Errorf("the table cannot be written: %v", err)
	}
	if _, err := Run(t.Context(), quick(), Output{Document: failing{broken}}); !errors.Is(err, broken) {
		t.Errorf("the document cannot be written: %v", err)
	}
	c := quick()
	c.CPU = 1 << 20
	if _, err := Run(t.Context(), c, Output{}); !errors.Is(err, hfreduce.ErrInvalid) || !strings.Contains(err.Error(), "--bind 1048576") {
		t.Errorf("a processor that is not there: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
