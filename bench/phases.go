// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"strings"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// The phases of a collective on GPU memory. They overlap: while one chunk is in one, others are in others.
const (
	phaseToHost = iota
	phaseReduce
	phaseNetwork
	phaseToDevice
	phaseCount
)

// phaseNames are those of the table and, in lower case, of the JSON document.
var phaseNames = [phaseCount]string{"D2H", "reduce", "network", "H2D"}

// phases tell where the time of a call went, as the mean of the ranks.
type phases struct {
	seconds, bytes    [phaseCount]float64 // of a call
	callMean, callMax float64             // seconds that the call itself takes on the host, until it returns
}

// rate returns GB/s.
func (p *phases) rate(phase int) float64 {
	if p.seconds[phase] <= 0 {
		return 0
	}
	return p.bytes[phase] / 1e9 / p.seconds[phase]
}

// phasesBetween returns the phases of one of a number of calls that this rank made between two looks at its counters. What
// went through the reduction is taken to be the size of the buffer.
func phasesBetween(from, to hfreduce.Stats, calls int, bufferBytes int64) (p phases) {
	a, b := from.Device, to.Device
	if a == nil {
		a = new(hfreduce.DeviceStats)
	}
	if b == nil {
		b = a
	}
	p.seconds = [phaseCount]float64{
		b.FillSeconds - a.FillSeconds, b.ReduceSeconds - a.ReduceSeconds, b.NetworkSeconds - a.NetworkSeconds, b.DrainSeconds - a.DrainSeconds,
	}
	p.bytes = [phaseCount]float64{
		float64(b.FilledBytes - a.FilledBytes), float64(bufferBytes) * float64(calls), linkBytes(to) - linkBytes(from), float64(b.DrainedBytes - a.DrainedBytes),
	}
	for i := range phaseCount {
		p.seconds[i] /= float64(calls)
		p.bytes[i] /= float64(calls)
	}
	return p
}

// linkBytes returns what a rank sent to other nodes or received from them, whichever is more: adapters do both at once.
func linkBytes(s hfreduce.Stats) float64 {
	sent, received := uint64(0), uint64(0)
	for _, l := range s.Links {
		sent, received = sent+l.SentBytes, received+l.ReceivedBytes
	}
	return float64(max(sent, received))
}

// meanPhases combines the phases of all ranks.
func (r *rank) meanPhases(ctx context.Context, p phases) (*phases, error) {
	numbers := append(append(p.seconds[:], p.bytes[:]...), p.callMean)
	if err := r.control.sums(ctx, numbers); err != nil {
		return nil, err
	}
	for i := range numbers {
		numbers[i] /= float64(r.control.comm.WorldSize())
	}
	mean := phases{seconds: [phaseCount]float64(numbers), bytes: [phaseCount]float64(numbers[phaseCount:]), callMean: numbers[2*phaseCount]}
	var err error
	mean.callMax, err = r.control.reduce(ctx, p.callMax, hfreduce.Max)
	return &mean, err
}

// phasesHead returns the lines above the table of phases. All its lines are comments, so that what reads nccl-tests' table
// does not see it.
func phasesHead() string {
	over, names, units := "", "", ""
	for _, name := range phaseNames {
		over += fmt.Sprintf("  %15s", name+"     ")
		names += fmt.Sprintf("  %7s  %6s", "time", "rate")
		units += fmt.Sprintf("  %7s  %6s", "(us)", "(GB/s)")
	}
	return "#\n# Phases of a call, the mean of the ranks; they overlap. Rates are of the bytes that a rank copies, sends or receives, and of\n" +
		"# the buffer for reduce. Call: how long the caller waits until the asynchronous call returns, mean and maximum\n" +
		fmt.Sprintf("# %10s  %8s  %6s  %6s  %5s  %7s%s  %16s\n", "", "", "", "", "", "", over, "call      ") +
		fmt.Sprintf("# %10s  %8s  %6s  %6s  %5s  %7s%s  %7s  %7s\n", "size", "type", "redop", "root", "place", "time", names, "mean", "max") +
		fmt.Sprintf("# %10s  %8s  %6s  %6s  %5s  %7s%s  %7s  %7s\n", "(B)", "", "", "", "", "(us)", units, "(us)", "(us)")
}

// phaseLines returns the lines of a row in the table of phases.
func (r *row) phaseLines() string {
	var b strings.Builder
	for i := range r.cells {
		p := r.cells[i].phases
		if p == nil {
			continue
		}
		place := [...]string{outOfPlaceCell: "out", inPlaceCell: "in"}[i]
		fmt.Fprintf(&b, "# %10d  %8s  %6s  %6d  %5s  %s", r.bytes, r.typeName(), r.op, r.root, place, column(r.cells[i].seconds*1e6, 7))
		for phase := range phaseCount {
			fmt.Fprintf(&b, "  %s  %s", column(p.seconds[phase]*1e6, 7), column(p.rate(phase), 6))
		}
		fmt.Fprintf(&b, "  %s  %s\n", column(p.callMean*1e6, 7), column(p.callMax*1e6, 7))
	}
	return b.String()
}
