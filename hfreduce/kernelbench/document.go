// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// documentVersion is that of the document's format.
const documentVersion = 1

// document is the JSON document. Its outline is that of the collectives' benchmark.
type document struct {
	Version         int        `json:"version"`
	HFReduceVersion string     `json:"hfreduce_version"`
	StartTime       string     `json:"start_time"`
	Args            []string   `json:"args"`
	Config          docConfig  `json:"config"`
	Machine         machine    `json:"machine"`
	Limits          []docLimit `json:"limits"`
	Results         []docRow   `json:"results"`
	Wrong           int        `json:"wrong"` // results
	Errors          []string   `json:"errors"`
	EndTime         string     `json:"end_time"`
}

type docConfig struct {
	Rounds   int      `json:"rounds"`
	Seed     uint64   `json:"seed"`
	Stores   string   `json:"stores"`
	Backends []string `json:"backends"`
	Limit    string   `json:"limit"` // what ratios refer to
}

type docLimit struct {
	WorkingSet int64      `json:"working_set"`
	Name       string     `json:"name"`
	Traffic    docFigures `json:"traffic_gbps"`
}

type docRow struct {
	WorkingSet  int64       `json:"working_set"`
	Type        string      `json:"type"`
	Op          string      `json:"redop"`
	Sources     int         `json:"sources"`
	Backend     string      `json:"backend"`
	Stores      string      `json:"stores"`
	Out         string      `json:"out"`
	SourceBytes int64       `json:"source_bytes"` // of each
	OutputBytes int64       `json:"output_bytes"` // of each
	CallBytes   int64       `json:"traffic_bytes"`
	Traffic     *docFigures `json:"traffic_gbps,omitempty"` // absent if the result is wrong
	Ratio       *docFigures `json:"ratio,omitempty"`
	Error       string      `json:"error,omitempty"`
}

// docFigures are samples in the order of the rounds.
type docFigures struct {
	Median  number   `json:"median"`
	Low     number   `json:"q1"`
	High    number   `json:"q3"`
	Samples []number `json:"samples"`
}

// number is written with six decimals, and null where JSON has no number.
type number float64

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return fmt.Appendf(nil, "%f", float64(n)), nil
}

func newDocument(c *Config, m machine, copies []yardstick) document {
	return document{
		Version: documentVersion, HFReduceVersion: hfreduce.Version(), StartTime: c.hooks.now().Format(time.DateTime),
		Args: append([]string{}, c.Args...), Machine: m, Limits: []docLimit{}, Results: []docRow{}, Errors: []string{},
		Config: docConfig{Rounds: c.Rounds, Seed: c.Seed, Stores: c.Stores.String(), Backends: c.Backends, Limit: copies[0].name},
	}
}

func docFiguresOf(samples []float64) docFigures {
	q := quartilesOf(samples)
	f := docFigures{Median: number(q.median), Low: number(q.low), High: number(q.high)}
	for _, s := range samples {
		f.Samples = append(f.Samples, number(s))
	}
	return f
}

// addRow adds a line of the table.
func (d *document) addRow(r *row) {
	line := docRow{
		WorkingSet: r.size, Type: r.dtype.String(), Op: r.op.String(), Sources: r.sources, Backend: r.backend.String(),
		Stores: r.stores(), Out: r.variant.String(), SourceBytes: r.shape.source, OutputBytes: r.shape.output, CallBytes: r.shape.traffic(),
	}
	if r.err != nil {
		line.Error = r.err.Error()
		d.Wrong++
	} else {
		traffic, ratio := docFiguresOf(r.figures.rates), docFiguresOf(r.figures.ratios())
		line.Traffic, line.Ratio = &traffic, &ratio
	}
	d.Results = append(d.Results, line)
}

// addLimits adds what the yardsticks came to.
func (d *document) addLimits(size int64, copies []yardstick, samples [][]float64) {
	for i, y := range copies {
		if len(samples[i]) > 0 {
			d.Limits = append(d.Limits, docLimit{size, y.name, docFiguresOf(samples[i])})
		}
	}
}

// write writes the document.
func (d *document) write(w io.Writer, now time.Time) error {
	d.EndTime = now.Format(time.DateTime)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(d)
}
