// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// formatVersion is the version of nccl-tests whose output ours is like.
const formatVersion = "2.19.6"

// report writes what rank 0 has to say: the table as it grows, the JSON document at the end.
type report struct {
	cfg      *Config
	out      Output
	devices  []device
	document document
	limits   *copyLimits // with GPUs
	phases   string      // lines of the current sweep

	done, total int     // measurements, for the progress
	sum         float64 // of the bus bandwidths of the current collective
	count       int
	err         error // of the first write that failed
}

// describeRanks returns the lines of the head on all ranks.
func describeRanks(c *Config, world *hfreduce.Comm) []device {
	var devices []device
	for _, info := range world.Ranks() {
		devices = append(devices, device{
			rank: info.Rank, group: c.Split.Group(info.Rank / c.RanksPerProcess()),
			pid: info.PID, host: info.Host, device: info.LocalRank, address: hostAddress, name: hostName,
		})
	}
	return devices
}

func newReport(c *Config, out Output, devices []device) *report {
	r := &report{cfg: c, out: out, devices: devices, document: newDocument(c, devices)}
	if out.Document != nil {
		r.print("# Writing JSON output to " + out.DocumentName + "\n")
	}
	return r
}

// print writes to the table. The first error is kept for finish.
func (r *report) print(text string) {
	r.out.Progress.Hide()
	if _, err := r.out.Table.Write([]byte(text)); err != nil && r.err == nil {
		r.err = fmt.Errorf("bench: write the table: %w", err)
	}
}

// begin writes the head of a collective's table. limit is MaxBytes as memory allows.
func (r *report) begin(c Collective, limit int64, tests int) {
	r.sum, r.count = 0, 0
	r.plan(c, tests)
	r.print(fmt.Sprintf("# hfreduce version %s nccl-tests-format %s\n# Collective test starting: %s\n", hfreduce.Version(), formatVersion, c.Program()))
	r.print(settings(r.cfg) + "# Using devices\n")
	for _, d := range r.devices {
		r.print(d.line())
	}
	if r.limits != nil {
		r.print(r.limits.line())
	}
	if limit < r.cfg.MaxBytes {
		r.print(fmt.Sprintf("#\n# Reducing maxBytes to %d due to memory limitation\n", limit))
	}
	r.print("#\n" + tableHead(r.cfg))
}

// plan counts the measurements to come, for the progress.
func (r *report) plan(c Collective, tests int) {
	sizes := 0
	for range r.cfg.Sizes() {
		if sizes++; c == Barrier {
			break
		}
	}
	r.done, r.total = 0, 2*tests*sizes*r.cfg.Cycles
}

// step tells the progress what comes next.
func (r *report) step(line row, inPlace bool) {
	place := "out of place"
	if inPlace {
		place = "in place"
	}
	r.out.Progress.Step(r.done, r.total, fmt.Sprintf("%s %s %s %d B %s", line.collective, line.typeName(), line.op, line.bytes, place))
	r.done++
}

// row writes a line of the table.
func (r *report) row(line row) error {
	for i := range line.cells {
		r.sum += line.cells[i].bus
		r.count++
	}
	r.document.addRow(r.cfg, &line)
	r.print(line.line(r.cfg, r.cfg.hooks.now()))
	r.phases += line.phaseLines()
	return r.err
}

// swept writes what belongs under the rows of a sweep: the table of phases.
func (r *report) swept() {
	if r.phases != "" {
		r.print(phasesHead() + r.phases + "#\n")
	}
	r.phases = ""
}

// found takes the GPUs that the ranks opened, and what they can copy.
func (r *report) found(devices []device, l copyLimits) {
	r.devices, r.limits = devices, &l
	r.document.setDevices(devices)
	r.document.setLimits(l)
}

// slowShare is the share of Config.MinBandwidth that must be reached.
const slowShare = 0.9

// end writes the footer of a collective and reports whether it was slower than it must be.
func (r *report) end(c Collective, outOfBounds int) (slow bool) {
	average := 0.0
	if r.count > 0 {
		average = r.sum / float64(r.count)
	}
	verdict := ""
	if r.cfg.MinBandwidth >= 0 && c != Barrier {
		verdict = "OK"
		if slow = average < slowShare*r.cfg.MinBandwidth; slow {
			verdict = "FAILED"
		}
	}
	r.document.addFooter(outOfBounds, r.sum, r.count, verdict)
	r.print(footer(c, outOfBounds, average, verdict))
	return slow
}

// finish ends the report with an error, if there was one, and writes the document. It returns the error, or that of
// writing.
func (r *report) finish(s Summary, err error) error {
	if err != nil {
		r.print(fmt.Sprintf("# error: %v\n", err))
		r.document.Errors = append(r.document.Errors, err.Error())
	} else {
		r.print("\n")
	}
	if r.out.Document != nil {
		if writeErr := r.document.write(r.out.Document, r.cfg.hooks.now()); writeErr != nil {
			r.err = errors.Join(r.err, fmt.Errorf("bench: write the JSON document: %w", writeErr))
		}
	}
	if err != nil {
		return err
	}
	return r.err
}
