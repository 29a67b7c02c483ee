// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// report writes the table as it grows, and the JSON document at the end.
type report struct {
	cfg      *Config
	out      Output
	machine  machine
	copies   []yardstick
	document document
	err      error // of the first write that failed
}

func newReport(c *Config, out Output, m machine, copies []yardstick) *report {
	return &report{cfg: c, out: out, machine: m, copies: copies, document: newDocument(c, m, copies)}
}

// print writes to the table. The first error is kept for finish.
func (r *report) print(text string) {
	r.out.Progress.Hide()
	if _, err := r.out.Table.Write([]byte(text)); err != nil && r.err == nil {
		r.err = fmt.Errorf("write the table: %w", err)
	}
}

// begin writes the head.
func (r *report) begin(groups []group) {
	if r.out.Document != nil {
		r.print("# Writing JSON output to " + r.out.DocumentName + "\n")
	}
	r.print(head(r.cfg, r.machine, r.copies, groups))
}

// head returns the lines above the first row.
func head(c *Config, m machine, copies []yardstick, groups []group) string {
	cases := 0
	for _, g := range groups {
		cases += len(g.cases)
	}
	inUse, _ := kernel.Selected()
	var b strings.Builder
	fmt.Fprintf(&b, "# hfreduce version %s reduction kernels\n", hfreduce.Version())
	fmt.Fprintf(&b, "# machine: %s\n", m.line())
	fmt.Fprintf(&b, "# %s %s/%s, huge pages: %s\n", m.Go, m.OS, m.Arch, m.Huge)
	fmt.Fprintf(&b, "# backends: %s; the library uses %s here\n", strings.Join(c.Backends, ", "), inUse)
	fmt.Fprintf(&b, "# limit: %s of half the working set to the other half%s\n", copies[0].name, withoutLibc(copies))
	fmt.Fprintf(&b, "# cases: %d, rounds: %d, seed: %d; medians, spread is half the distance between the quartiles of x %s\n#\n", cases, c.Rounds, c.Seed, copies[0].short)
	b.WriteString(tableHead(copies[0].short))
	return b.String()
}

// withoutLibc says what to do for libc's memcpy where it is missing.
func withoutLibc(copies []yardstick) string {
	if len(copies) > 1 {
		return ""
	}
	return "; for glibc's memcpy build with CGO_ENABLED=1"
}

// step tells the progress what comes next.
func (r *report) step(done, total int, what string) { r.out.Progress.Step(done, total, what) }

// row writes a line of the table.
func (r *report) row(line *row) {
	r.document.addRow(line)
	r.print(line.line())
	if line.err != nil {
		r.print(fmt.Sprintf("# wrong: %v\n", line.err))
	}
}

// limits writes what the yardsticks came to in all groups of a working set.
func (r *report) limits(size int64, samples [][]float64) {
	r.document.addLimits(size, r.copies, samples)
	r.print(limitLine(size, r.copies, samples))
}

// finish ends the report with an error, if there was one, and writes the document. It returns the error, or that of
// writing.
func (r *report) finish(err error) error {
	if err != nil {
		r.print(fmt.Sprintf("# error: %v\n", err))
		r.document.Errors = append(r.document.Errors, err.Error())
	} else {
		r.print("\n")
	}
	if r.out.Document != nil {
		if writeErr := r.document.write(r.out.Document, r.cfg.hooks.now()); writeErr != nil {
			r.err = errors.Join(r.err, fmt.Errorf("write the JSON document: %w", writeErr))
		}
	}
	if err != nil {
		return err
	}
	return r.err
}
