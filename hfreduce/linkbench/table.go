// SPDX-License-Identifier: Apache-2.0

package linkbench

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// report writes the table as it grows, and the JSON document at the end.
type report struct {
	cfg      *Config
	out      Output
	measured []measured
	document document
	err      error // of the first write that failed
}

// measured is a pair and its figures.
type measured struct {
	pair
	hfreduce.LinkResult
}

func newReport(c *Config, out Output) *report {
	return &report{cfg: c, out: out, document: newDocument(c)}
}

// print writes to the table. The first error is kept for finish.
func (r *report) print(format string, args ...any) {
	r.out.Progress.Hide()
	if _, err := fmt.Fprintf(r.out.Table, format, args...); err != nil && r.err == nil {
		r.err = fmt.Errorf("write the table: %w", err)
	}
}

// what describes each mode.
var what = [...]string{
	hfreduce.LinkBandwidth: "bandwidth, one way: from -> to",
	hfreduce.LinkBoth:      "bandwidth, both ways at once: the sum of the two directions",
	hfreduce.LinkLatency:   "latency: half the round trip of a message there and back",
}

// begin writes the head.
func (r *report) begin(nodes, ranks, pairs int) {
	c := r.cfg
	if r.out.Document != nil {
		r.print("# Writing JSON output to %s\n", r.out.DocumentName)
	}
	r.print("# hfreduce version %s link %s\n", hfreduce.Version(), what[c.Mode])
	r.print("# nodes: %d, pairs: %d (%v), one at a time\n", nodes, pairs, c.Pairs)
	if ranks > nodes {
		r.print("# the first rank of each node takes part, not the others of the %d: ranks on one node share memory\n", ranks)
	}
	window, checked := "", "none"
	if c.Mode != hfreduce.LinkLatency {
		window = fmt.Sprintf(", window: %d messages in flight", c.Window)
	}
	if c.Check {
		checked = fmt.Sprintf("%d messages after each measurement", 2*c.Window)
	}
	r.print("# iters: %d, warmup iters: %d%s, validation: %s\n#\n", c.Iters, c.Warmup, window, checked)
	r.print("# %5s %5s  %12s  %12s  %9s  %10s", "from", "to", "from host", "to host", "transport", "size")
	units := fmt.Sprintf("# %5s %5s  %12s  %12s  %9s  %10s", "", "", "", "", "", "(B)")
	columns := []string{"time", "(us)", "bandwidth", "(GB/s)", "", "(Gbit/s)"}
	if c.Mode == hfreduce.LinkLatency {
		columns = []string{"min", "(us)", "typical", "(us)", "avg", "(us)", "99%", "(us)", "max", "(us)"}
	}
	for i := 0; i < len(columns); i += 2 {
		r.print("  %9s", columns[i])
		units += fmt.Sprintf("  %9s", columns[i+1])
	}
	r.print("  %6s\n%s\n", "#wrong", units)
}

// pair writes the lines of a pair.
func (r *report) pair(p pair, found hfreduce.LinkResult) {
	r.measured = append(r.measured, measured{p, found})
	for i := range found.Figures {
		f := &found.Figures[i]
		r.document.add(r.cfg, p, found.Transport, f)
		r.print("  %5d %5d  %12s  %12s  %9s  %10d", p.from.Rank, p.to.Rank, p.from.Host, p.to.Host, found.Transport, f.Bytes)
		if l := f.Latency; r.cfg.Mode == hfreduce.LinkLatency {
			for _, d := range [...]time.Duration{l.Min, l.Median, l.Mean, l.P99, l.Max} {
				r.print("  %9.2f", microseconds(d))
			}
		} else {
			r.print("  %9.2f  %9.3f  %9.2f", f.Seconds*1e6, f.BytesPerSecond/1e9, f.BytesPerSecond*8/1e9)
		}
		wrong := "N/A"
		if f.Checked > 0 {
			wrong = fmt.Sprint(f.Wrong)
		}
		r.print("  %6s\n", wrong)
		if f.Fault != "" {
			r.print("# wrong: %s\n", f.Fault)
		}
	}
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// finish writes what stands out, or the error, and the document. It returns the first error of writing.
func (r *report) finish(failure error) error {
	if failure == nil {
		r.print("%s", r.summary())
	} else {
		r.print("# error: %v\n", failure)
		r.document.Errors = append(r.document.Errors, failure.Error())
	}
	if r.out.Document != nil {
		if err := r.document.write(r.out.Document, r.cfg.hooks.now()); err != nil && r.err == nil {
			r.err = fmt.Errorf("write the JSON document: %w", err)
		}
	}
	return r.err
}

// summary compares the pairs: by the typical latency of the first size, or the bandwidth of the last.
func (r *report) summary() string {
	if len(r.measured) < 2 {
		return ""
	}
	at, cost := 0, func(m measured) float64 { return microseconds(m.Figures[0].Latency.Median) }
	value := func(m measured) string { return fmt.Sprintf("%.2f us", cost(m)) }
	if r.cfg.Mode != hfreduce.LinkLatency {
		at = len(r.measured[0].Figures) - 1
		cost = func(m measured) float64 { return -m.Figures[at].BytesPerSecond }
		value = func(m measured) string { return fmt.Sprintf("%.3f GB/s", -cost(m)/1e9) }
	}
	sorted := slices.SortedStableFunc(slices.Values(r.measured), func(a, b measured) int { return cmp.Compare(cost(a), cost(b)) })
	var b strings.Builder
	fmt.Fprintf(&b, "#\n# of %d pairs at %d B:\n", len(sorted), sorted[0].Figures[at].Bytes)
	for _, l := range []struct {
		name string
		m    measured
	}{{"fastest", sorted[0]}, {"median", sorted[len(sorted)/2]}, {"slowest", sorted[len(sorted)-1]}} {
		fmt.Fprintf(&b, "# %7s: %s, %v over %s\n", l.name, value(l.m), l.m.pair, l.m.Transport)
	}
	b.WriteString(transports(r.measured))
	return b.String()
}

// transports tells when not all pairs use one transport, and who uses which.
func transports(all []measured) string {
	pairs := map[string][]string{}
	var names []string
	for _, m := range all {
		if pairs[m.Transport] == nil {
			names = append(names, m.Transport)
		}
		pairs[m.Transport] = append(pairs[m.Transport], fmt.Sprintf("%d -> %d", m.from.Rank, m.to.Rank))
	}
	if len(names) < 2 {
		return ""
	}
	slices.SortStableFunc(names, func(a, b string) int { return len(pairs[b]) - len(pairs[a]) })
	text := fmt.Sprintf("# transports differ: %s for %d pairs", names[0], len(pairs[names[0]]))
	for _, name := range names[1:] {
		text += fmt.Sprintf(", %s for %s", name, strings.Join(pairs[name], ", "))
	}
	return text + "\n"
}
