// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// documentVersion is nccl-tests' version of the document's format.
const documentVersion = 2

// document is the JSON document: nccl-tests' keys, with its habit of writing truth values and roots as strings, and
// some of ours. With several collectives their results follow each other and the figures at the end are over all.
type document struct {
	Version         int          `json:"version"`
	HFReduceVersion string       `json:"hfreduce_version"` // ours
	StartTime       string       `json:"start_time"`
	Args            []string     `json:"args"`
	Env             []string     `json:"env"`
	NCCLVersion     int          `json:"nccl_version"` // 0: no NCCL here
	Config          docConfig    `json:"config"`
	Devices         []docDevice  `json:"devices"`
	CopyLimits      *docLimits   `json:"copy_limits,omitempty"` // ours, with GPUs
	Results         []docRow     `json:"results"`
	OutOfBounds     docBounds    `json:"out_of_bounds"`
	AverageBusBW    docBandwidth `json:"average_bus_bandwidth"`
	Errors          []string     `json:"errors"`
	EndTime         string       `json:"end_time"`
	sum             float64      // of bus bandwidths
	count           int          // of measurements
}

type docConfig struct {
	Threads      int         `json:"nthreads"`
	GPUs         int         `json:"ngpus"`
	MinBytes     int64       `json:"minimum_bytes"`
	MaxBytes     int64       `json:"maximum_bytes"`
	StepFactor   int64       `json:"step_factor,omitempty"`
	StepBytes    int64       `json:"step_bytes,omitempty"`
	Warmup       int         `json:"warmup_iters"`
	Iters        int         `json:"iterations"`
	Aggregate    int         `json:"aggregated_iterations"`
	Check        int         `json:"validation"`
	Graph        int         `json:"graph"`
	Blocking     string      `json:"blocking_collectives"`
	PerIter      string      `json:"per_iter_timing"`
	PerIterSkip  int         `json:"per_iter_skip"`
	ParallelInit string      `json:"parallel_init"`
	Registered   string      `json:"registered_buffers"` // ours
	Devices      []docDevice `json:"devices"`            // where nccl-tests has them
}

type docDevice struct {
	Rank    int    `json:"rank"`
	Group   int    `json:"group"`
	PID     int    `json:"pid"`
	Host    string `json:"hostname"`
	Device  int    `json:"device"`
	Address string `json:"device_hex"`
	Name    string `json:"device_info"`
}

type docRow struct {
	Collective        string    `json:"collective"` // ours
	Size              int64     `json:"size"`
	Count             int64     `json:"count"`
	Type              string    `json:"type"`
	Op                string    `json:"redop"`
	Root              string    `json:"root"`
	OutOfPlace        docCell   `json:"out_of_place"`
	OutOfPlacePerIter *docIters `json:"out_of_place_per_iter,omitempty"`
	OutOfPlacePhases  docPhases `json:"out_of_place_phases,omitempty"` // ours
	InPlace           docCell   `json:"in_place"`
	InPlacePerIter    *docIters `json:"in_place_per_iter,omitempty"`
	InPlacePhases     docPhases `json:"in_place_phases,omitempty"` // ours
	Iterations        int       `json:"actual_iterations"`
	Experiment        string    `json:"experiment_name"`
}

type docCell struct {
	Time    *number `json:"time,omitempty"`
	CPUTime *number `json:"cpu_time,omitempty"`
	AlgBW   number  `json:"alg_bw"`
	BusBW   number  `json:"bus_bw"`
	Wrong   *number `json:"nwrong"`
}

type docIters struct {
	Skipped   int        `json:"skipped_iterations"`
	Min       number     `json:"min_us"`
	Max       number     `json:"max_us"`
	Mean      number     `json:"avg_us"`
	P50       number     `json:"p50_us"`
	P95       number     `json:"p95_us"`
	P99       number     `json:"p99_us"`
	Stdev     number     `json:"stdev_us"`
	Variation number     `json:"cv_pct"`
	Times     []number   `json:"times_us"`
	Processes [][]number `json:"per_process_max_times_us,omitempty"`
}

type docBounds struct {
	Count int    `json:"count"`
	Okay  string `json:"okay"`
}

type docBandwidth struct {
	Bandwidth number `json:"bandwidth"`
	Okay      string `json:"okay"` // "true", "false" or "unchecked"
}

// number is written with six decimals, as nccl-tests does, and "nan" where JSON has no number.
type number float64

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte(`"` + general(float64(n)) + `"`), nil
	}
	return fmt.Appendf(nil, "%f", float64(n)), nil
}

// micros returns seconds as microseconds.
func micros(seconds []float64) []number {
	us := make([]number, len(seconds))
	for i, s := range seconds {
		us[i] = number(s * 1e6)
	}
	return us
}

func newDocument(c *Config, devices []device) document {
	d := document{
		Version: documentVersion, HFReduceVersion: hfreduce.Version(), StartTime: c.hooks.now().Format(timeLayout),
		Args: append([]string{}, c.Args...), Env: relevantEnv(c.Env), Devices: []docDevice{}, Results: []docRow{}, Errors: []string{},
		OutOfBounds: docBounds{Okay: "true"}, AverageBusBW: docBandwidth{Okay: "unchecked"},
	}
	d.Config = docConfig{
		Threads: c.Threads, GPUs: c.gpusReported(), MinBytes: c.MinBytes, MaxBytes: c.MaxBytes, Warmup: c.Warmup, Iters: c.Iters,
		Aggregate: c.Aggregate, Check: c.Check, Blocking: truth(c.Blocking != NoBlocking), PerIter: truth(c.PerIter),
		PerIterSkip: c.PerIterSkip, ParallelInit: truth(c.ParallelInit), Registered: truth(c.Registered),
	}
	if c.StepFactor > 1 {
		d.Config.StepFactor = c.StepFactor
	} else {
		d.Config.StepBytes = c.StepBytes
	}
	d.setDevices(devices)
	return d
}

// setDevices says what the ranks run on.
func (d *document) setDevices(devices []device) {
	d.Devices = []docDevice{}
	for _, v := range devices {
		d.Devices = append(d.Devices, docDevice{v.rank, v.group, v.pid, v.host, v.device, v.address, v.name})
	}
	d.Config.Devices = d.Devices
}

func truth(b bool) string { return fmt.Sprint(b) }

// addRow adds a line of the table.
func (d *document) addRow(c *Config, r *row) {
	d.Results = append(d.Results, docRow{
		Collective: r.collective.String(), Size: r.bytes, Count: r.count, Type: r.typeName(), Op: r.op.String(),
		Root: fmt.Sprintf("%6d", r.root), Iterations: c.Iters,
		OutOfPlace: docCellOf(c, &r.cells[outOfPlaceCell]), OutOfPlacePerIter: docItersOf(c, &r.cells[outOfPlaceCell]),
		InPlace: docCellOf(c, &r.cells[inPlaceCell]), InPlacePerIter: docItersOf(c, &r.cells[inPlaceCell]),
		OutOfPlacePhases: docPhasesOf(r.cells[outOfPlaceCell].phases), InPlacePhases: docPhasesOf(r.cells[inPlaceCell].phases),
	})
}

func docCellOf(c *Config, m *cell) docCell {
	us, cell := number(m.seconds*1e6), docCell{AlgBW: number(m.alg), BusBW: number(m.bus)}
	if c.CPUTime {
		cell.CPUTime = &us
	} else {
		cell.Time = &us
	}
	if wrong := number(m.wrong); c.Check > 0 {
		cell.Wrong = &wrong
	}
	return cell
}

func docItersOf(c *Config, m *cell) *docIters {
	if !c.PerIter {
		return nil
	}
	d := &docIters{
		Skipped: c.PerIterSkip, Min: number(m.stats.min * 1e6), Max: number(m.stats.max * 1e6), Mean: number(m.stats.mean * 1e6),
		P50: number(m.stats.p50 * 1e6), P95: number(m.stats.p95 * 1e6), P99: number(m.stats.p99 * 1e6),
		Stdev: number(m.stats.stdev * 1e6), Variation: number(m.stats.variation()), Times: micros(m.iters),
	}
	if len(m.processes) > 1 {
		for _, p := range m.processes {
			d.Processes = append(d.Processes, micros(p))
		}
	}
	return d
}

// addFooter adds what a collective came to.
func (d *document) addFooter(outOfBounds int, sum float64, count int, verdict string) {
	d.OutOfBounds.Count += outOfBounds
	d.OutOfBounds.Okay = truth(d.OutOfBounds.Count == 0)
	d.sum, d.count = d.sum+sum, d.count+count
	if d.count > 0 {
		d.AverageBusBW.Bandwidth = number(d.sum / float64(d.count))
	}
	if verdict != "" && d.AverageBusBW.Okay != "false" {
		d.AverageBusBW.Okay = truth(verdict == "OK")
	}
}

// write writes the document.
func (d *document) write(w io.Writer, now time.Time) error {
	d.EndTime = now.Format(timeLayout)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(d)
}

// relevantEnv returns the variables that tell how a run was made: ours, NCCL's and the launchers'. The rest is nobody's
// business, and neither are secrets.
func relevantEnv(env []string) []string {
	relevant := []string{}
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if strings.Contains(name, "SECRET") {
			continue
		}
		for _, prefix := range [...]string{"HFREDUCE_", "NCCL_", "RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "MASTER_", "TORCHELASTIC_", "SLURM_", "OMPI_COMM_", "PMI_", "GO", "CUDA_VISIBLE_"} {
			if strings.HasPrefix(name, prefix) {
				relevant = append(relevant, v)
				break
			}
		}
	}
	return relevant
}
