// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/internal/golden"
)

// What differs from machine to machine and build to build.
var (
	processText = regexp.MustCompile(`Pid +\d+ on +\S+ device`)
	processJSON = regexp.MustCompile(`"pid": \d+,\n(\s*)"hostname": "[^"]*"`)
	versionText = regexp.MustCompile(`hfreduce version \S+`)
	versionJSON = regexp.MustCompile(`"hfreduce_version": "[^"]*"`)
)

func anonymous(s string) string {
	s = processText.ReplaceAllString(s, "Pid   1234 on      host1 device")
	s = processJSON.ReplaceAllString(s, "\"pid\": 1234,\n${1}\"hostname\": \"host1\"")
	s = versionText.ReplaceAllString(s, "hfreduce version v0.0.0")
	return versionJSON.ReplaceAllString(s, `"hfreduce_version": "v0.0.0"`)
}

// goldenRuns are runs whose output is compared byte by byte.
var goldenRuns = map[string]func(c *Config){
	"allreduce":  func(c *Config) {},
	"no_check":   func(c *Config) { c.Check, c.StepFactor, c.StepBytes, c.MinBytes = 0, 1, 8<<10, 8<<10 },
	"timestamps": func(c *Config) { c.Timestamps, c.CPUTime = true, true },
	"per_iter": func(c *Config) {
		c.PerIter, c.PerIterSkip, c.Iters, c.Threads, c.Blocking, c.ParallelInit = true, 1, 4, 2, WaitOnly, true
	},
	"all": func(c *Config) {
		c.Collectives, c.Types, c.Ops = Collectives(), []hfreduce.DataType{hfreduce.TypeBFloat16}, []Op{Avg}
		c.MinBytes, c.Root = 16<<10, AllRoots
	},
	"too_slow": func(c *Config) { c.MinBandwidth = 100 },
	"corrupt": func(c *Config) {
		c.hooks.corrupt = func(_ Collective, rank int, inPlace bool, w window) {
			if rank == 1 && !inPlace {
				w.payload()[0] ^= 1
			}
		}
	},
	"long":  func(c *Config) { c.hooks.clock = fakeClock(time.Hour) }, // numbers that do not fit their columns
	"short": func(c *Config) { c.hooks.clock = fakeClock(time.Nanosecond); c.Iters = 100 },
}

func goldenOutcome(t *testing.T, set func(c *Config)) outcome {
	t.Helper()
	return goldenOutcomeOn(t, newComms(t, 0, 0, 1, 1), set)
}

func goldenOutcomeOn(t *testing.T, comms []*hfreduce.Comm, set func(c *Config)) outcome {
	t.Helper()
	cfg := small()
	cfg.Args = []string{"hfreduce", "bench", "-b", "4"}
	cfg.Env = []string{"HFREDUCE_SECRET=hush", "HFREDUCE_JOB_ID=7", "HOME=/root", "RANK=0", "NCCL_TESTS_MIN_BW=1"}
	cfg.hooks.clock = fakeClock(7*time.Microsecond, 11*time.Microsecond, 1300*time.Nanosecond)
	cfg.hooks.now = func() time.Time { return time.Date(2026, 11, 24, 12, 30, 59, 0, time.UTC) }
	set(&cfg)
	got := runOn(t.Context(), cfg, comms)
	if got.err != nil {
		t.Fatal(got.err)
	}
	return got
}

func TestGoldenOutput(t *testing.T) {
	for name, set := range goldenRuns {
		t.Run(name, func(t *testing.T) {
			got := goldenOutcome(t, set)
			golden.Check(t, name+".txt", anonymous(got.table))
			golden.Check(t, name+".json", anonymous(got.document))
		})
	}
}

// The head of the table, written down from nccl-tests 2.19.6.
func TestTableHeadIsThatOfNCCLTests(t *testing.T) {
	const want = "" +
		"#                                                              out-of-place                       in-place          \n" +
		"#       size         count      type   redop    root     time   algbw   busbw  #wrong     time   algbw   busbw  #wrong \n" +
		"#        (B)    (elements)                               (us)  (GB/s)  (GB/s)             (us)  (GB/s)  (GB/s)         \n"
	c := DefaultConfig()
	if got := tableHead(&c); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	c.Timestamps = true
	if got := strings.Split(tableHead(&c), "\n"); !strings.HasSuffix(got[1], " #wrong           timestamp") || !strings.HasSuffix(got[2], "(GB/s)           %Y-%m-%d %H:%M:%S") {
		t.Errorf("with timestamps:\n%s", strings.Join(got, "\n"))
	}
}

// A row as nccl-tests posted it: 4 ranks, 32 MiB; this release has one space more before #wrong.
func TestRowIsThatOfNCCLTests(t *testing.T) {
	c := DefaultConfig()
	s := AllReduce.shape(32<<20, 4, 4)
	line := row{test: test{AllReduce, hfreduce.TypeFloat32, Sum, -1}, bytes: 32 << 20, count: s.count}
	for i, us := range []float64{2037.7, 2063.9} {
		line.cells[i].seconds = us / 1e6
		line.cells[i].alg, line.cells[i].bus = AllReduce.bandwidth(s, 4, 4, us/1e6)
	}
	const want = "    33554432       8388608     float     sum      -1  2037.70   16.47   24.70       0  2063.90   16.26   24.39       0\n"
	if got := line.line(&c, time.Time{}); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// The regular expressions that people take nccl-tests' output apart with work on ours.
func TestParsersOfNCCLTestsWork(t *testing.T) {
	table := goldenOutcome(t, goldenRuns["allreduce"]).table
	strict := regexp.MustCompile(`^\s*(\d+)\s+(\d+)\s+(\w+)\s+(\w+)\s+(-?\d+)\s+(\d+(?:\.\d+)?(?:e[+-]\d+)?)\s+(\d+\.\d+)\s+(\d+\.\d+)\s+(\d+|N/A)\s+(\d+(?:\.\d+)?(?:e[+-]\d+)?)\s+(\d+\.\d+)\s+(\d+\.\d+)\s+(\d+|N/A)\s*$`)
	loose := regexp.MustCompile(`\d+\s+\d+\s+float\s+sum.*`)
	average := regexp.MustCompile(`# Avg bus bandwidth\s*:\s*(\d+\.?\d*)`)
	bounds := regexp.MustCompile(`# Out of bounds values\s*:\s*(\d+) (OK|FAILED)`)
	device := regexp.MustCompile(`#\s+Rank\s+(\d+) Group\s+(\d+) Pid\s+(\d+) on\s+(\S+) device\s+(\d+) \[([0-9a-f:]+)\] (.+)`)
	found := 0
	for line := range strings.Lines(table) {
		if strict.MatchString(line) {
			found++
		}
	}
	if found != 4 || len(loose.FindAllString(table, -1)) != 4 {
		t.Errorf("%d rows by the strict, %d by the loose parser, want 4", found, len(loose.FindAllString(table, -1)))
	}
	if !average.MatchString(table) || bounds.FindStringSubmatch(table)[2] != "OK" || len(device.FindAllString(table, -1)) != 4 {
		t.Errorf("head or footer is not understood:\n%s", table)
	}
	// The oldest trick: split at white space, cut out columns.
	row := rows(table)[3]
	if row[0] != "16384" || row[1] != "4096" || len(row) != 13 {
		t.Errorf("row %q", row)
	}
}
