// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"strings"
	"time"
)

// row is a line of the table: one size.
type row struct {
	test
	bytes, count int64
	cells        [2]cell
}

// The cells of a row.
const (
	outOfPlaceCell = iota
	inPlaceCell
)

// cell is one measurement.
type cell struct {
	seconds  float64 // of a call
	alg, bus float64 // GB/s
	wrong    int64   // elements

	// With Config.PerIter, in seconds.
	iters     []float64   // of the slowest process
	processes [][]float64 // of each process
	stats     iterStats

	phases *phases // with Config.Phases
}

// device describes a rank in the head of the report. Without GPUs host memory is the device, and its number the local rank.
type device struct {
	rank, group, pid, device int
	host                     string
	address, name            string // on the PCI bus
	machine                  string // RankInfo.Machine, with GPUs
}

// The bus address and name of host memory.
const (
	hostAddress = "0000:00:00"
	hostName    = "host memory"
)

func (d device) line() string {
	return fmt.Sprintf("#  Rank %2d Group %2d Pid %6d on %10s device %2d [%s] %s\n", d.rank, d.group, d.pid, d.host, d.device, d.address, d.name)
}

// timeLayout is that of timestamps; timeLabel is how the table's head calls it.
const (
	timeLayout = time.DateTime
	timeLabel  = "%Y-%m-%d %H:%M:%S"
)

// settings returns the lines of the head that repeat the configuration.
func settings(c *Config) string {
	var b strings.Builder
	step, unit := c.StepBytes, "bytes"
	if c.StepFactor > 1 {
		step, unit = c.StepFactor, "factor"
	}
	fmt.Fprintf(&b, "# nThread %d nGpus %d minBytes %d maxBytes %d step: %d(%s) warmup iters: %d iters: %d agg iters: %d validation: %d graph: 0 unalign: %d\n",
		c.Threads, c.gpusReported(), c.MinBytes, c.MaxBytes, step, unit, c.Warmup, c.Iters, c.Aggregate, c.Check, c.Unalign)
	switch c.Blocking {
	case WaitAndBarrier:
		b.WriteString("# Blocking Enabled: wait and barrier after each call\n")
	case WaitOnly:
		b.WriteString("# Blocking Enabled: wait after each call, no barrier\n")
	case BarrierPerIters:
		b.WriteString("# Blocking Enabled: wait and barrier after each iteration, the barrier is not timed\n")
	}
	if c.PerIter {
		fmt.Fprintf(&b, "# Per-Iteration Report: i_* are of the slowest process, without the first %d iterations\n", c.PerIterSkip)
	}
	if c.ParallelInit {
		b.WriteString("# Parallel Init Enabled: the ranks of a process start at the same time\n")
	}
	b.WriteString("#\n")
	return b.String()
}

// gpusReported returns nccl-tests' number of GPUs of a thread, which is never 0.
func (c *Config) gpusReported() int { return max(1, c.GPUs) }

// tableHead returns the three lines above the table.
func tableHead(c *Config) string {
	duration, label, labelUnit, labelWidth := "time", "", "", 0
	if c.CPUTime {
		duration = "cputime"
	}
	if c.Timestamps {
		label, labelUnit, labelWidth = "timestamp", timeLabel, len(timeLayout)
	}
	over := "           out-of-place                       in-place          "
	perIter, perIterUnits := "", ""
	if c.PerIter {
		over = "              out-of-place (+ per-iteration)                                in-place (+ per-iteration)"
		perIter = fmt.Sprintf("  %7s  %7s  %7s  %7s", "i_min", "i_max", "i_p99", "i_cv%")
		perIterUnits = fmt.Sprintf("  %7s  %7s  %7s  %7s", "(us)", "(us)", "(us)", "(%)")
	}
	names := fmt.Sprintf("  %7s  %6s  %6s  %6s", duration, "algbw", "busbw", "#wrong") + perIter
	units := fmt.Sprintf("  %7s  %6s  %6s  %6s", "(us)", "(GB/s)", "(GB/s)", "") + perIterUnits
	return fmt.Sprintf("# %10s  %12s  %8s  %6s  %6s%s\n", "", "", "", "", "", over) +
		fmt.Sprintf("# %10s  %12s  %8s  %6s  %6s%s%s %*s\n", "size", "count", "type", "redop", "root", names, names, labelWidth, label) +
		fmt.Sprintf("# %10s  %12s  %8s  %6s  %6s%s%s %*s\n", "(B)", "(elements)", "", "", "", units, units, labelWidth, labelUnit)
}

// line returns a row as a line of the table, with the time of day now if the configuration wants one.
func (r *row) line(c *Config, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%12d  %12d  %8s  %6s  %6d", r.bytes, r.count, r.typeName(), r.op, r.root)
	for i := range r.cells {
		b.WriteString(r.cells[i].columns(c))
	}
	if c.Timestamps {
		fmt.Fprintf(&b, "%21s", now.Format(timeLayout))
	}
	b.WriteByte('\n')
	return b.String()
}

// columns returns the columns of a measurement.
func (m *cell) columns(c *Config) string {
	wrong := "N/A"
	if c.Check > 0 {
		wrong = general(float64(m.wrong))
	}
	s := fmt.Sprintf("  %s  %s  %s  %6s", column(m.seconds*1e6, 7), column(m.alg, 6), column(m.bus, 6), wrong)
	if c.PerIter {
		s += fmt.Sprintf("  %s  %s  %s  %s", column(m.stats.min*1e6, 7), column(m.stats.max*1e6, 7), column(m.stats.p99*1e6, 7), column(m.stats.variation(), 7))
	}
	return s
}

// footer returns the lines under the table. verdict is that on the average bandwidth: "", "OK" or "FAILED".
func footer(c Collective, outOfBounds int, average float64, verdict string) string {
	result := "OK"
	if outOfBounds > 0 {
		result = "FAILED"
	}
	return fmt.Sprintf("# %-20s : %d %s\n", "Out of bounds values", outOfBounds, result) +
		fmt.Sprintf("# %-20s : %s %s\n", "Avg bus bandwidth", general(average), verdict) +
		fmt.Sprintf("#\n# Collective test concluded: %s\n#\n", c.Program())
}
