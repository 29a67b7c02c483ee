// SPDX-License-Identifier: Apache-2.0

package linkbench

import (
	"encoding/json"
	"io"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// documentVersion is that of the document's format.
const documentVersion = 1

// document is the JSON document. Its outline is that of the collectives' benchmark.
type document struct {
	Version         int       `json:"version"`
	HFReduceVersion string    `json:"hfreduce_version"`
	StartTime       string    `json:"start_time"`
	Args            []string  `json:"args"`
	Config          docConfig `json:"config"`
	Results         []docRow  `json:"results"`
	Wrong           int       `json:"wrong"` // messages
	Errors          []string  `json:"errors"`
	EndTime         string    `json:"end_time"`
}

type docConfig struct {
	Mode   string `json:"mode"`
	Pairs  string `json:"pairs"`
	Window int    `json:"window"`
	Iters  int    `json:"iterations"`
	Warmup int    `json:"warmup_iters"`
}

type docRow struct {
	From      int         `json:"from"`
	To        int         `json:"to"`
	FromHost  string      `json:"from_host"`
	ToHost    string      `json:"to_host"`
	Transport string      `json:"transport"`
	Size      int         `json:"size"`
	Time      float64     `json:"time"`                // of a message, in microseconds
	Bandwidth *float64    `json:"bandwidth,omitempty"` // GB/s; of both directions together in mode both
	Latency   *docLatency `json:"latency,omitempty"`   // in microseconds
	Checked   int         `json:"checked"`             // messages
	Wrong     int         `json:"nwrong"`
	Fault     string      `json:"fault,omitempty"`
}

type docLatency struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Mean   float64 `json:"mean"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

func newDocument(c *Config) document {
	return document{
		Version: documentVersion, HFReduceVersion: hfreduce.Version(), StartTime: c.hooks.now().Format(time.DateTime),
		Args: append([]string{}, c.Args...), Results: []docRow{}, Errors: []string{},
		Config: docConfig{Mode: c.Mode.String(), Pairs: c.Pairs.String(), Window: c.Window, Iters: c.Iters, Warmup: c.Warmup},
	}
}

// add adds a line of the table.
func (d *document) add(c *Config, p pair, transport string, f *hfreduce.LinkFigure) {
	row := docRow{
		From: p.from.Rank, To: p.to.Rank, FromHost: p.from.Host, ToHost: p.to.Host, Transport: transport, Size: f.Bytes,
		Time: f.Seconds * 1e6, Checked: f.Checked, Wrong: f.Wrong, Fault: f.Fault,
	}
	if l := f.Latency; c.Mode == hfreduce.LinkLatency {
		row.Latency = &docLatency{microseconds(l.Min), microseconds(l.Median), microseconds(l.Mean), microseconds(l.P99), microseconds(l.Max)}
	} else {
		bandwidth := f.BytesPerSecond / 1e9
		row.Bandwidth = &bandwidth
	}
	d.Wrong += f.Wrong
	d.Results = append(d.Results, row)
}

// write writes the document.
func (d *document) write(w io.Writer, now time.Time) error {
	d.EndTime = now.Format(time.DateTime)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(d)
}
