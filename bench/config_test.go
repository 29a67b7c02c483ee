// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDefaultConfigIsValid(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if sizes := slices.Collect(c.Sizes()); !slices.Equal(sizes, []int64{32 << 20}) {
		t.Errorf("sizes %v", sizes)
	}
}

// Every bad value is refused by a message that names the flag.
func TestValidateNamesTheFlag(t *testing.T) {
	for flag, spoil := range map[string]func(c *Config){
		"-b":                       func(c *Config) { c.MinBytes = -1 },
		"-e":                       func(c *Config) { c.MaxBytes = 1 },
		"-f ":                      func(c *Config) { c.StepFactor = -2 },
		"-i ":                      func(c *Config) { c.StepBytes = -1 },
		"-b 0 never grows by -f 2": func(c *Config) { c.MinBytes, c.StepFactor = 0, 2 },
		"-i 0 never gets":          func(c *Config) { c.MinBytes, c.StepBytes = 8, 0 },
		"-n":                       func(c *Config) { c.Iters = 0 },
		"-w":                       func(c *Config) { c.Warmup = -1 },
		"-m":                       func(c *Config) { c.Aggregate = 0 },
		"-N":                       func(c *Config) { c.Cycles = -1 },
		"-c":                       func(c *Config) { c.Check = -1 },
		"-u":                       func(c *Config) { c.Unalign = 5000 },
		"-z":                       func(c *Config) { c.Blocking = 4 },
		"-a":                       func(c *Config) { c.Average = 4 },
		"-T":                       func(c *Config) { c.Timeout = -time.Second },
		"-K":                       func(c *Config) { c.PerIterSkip = 20 },
		"-t":                       func(c *Config) { c.Threads = 0 },
		"-t 11":                    func(c *Config) { c.GPUs, c.Threads = 1, 11 },
		"--phase":                  func(c *Config) { c.Phases = true },
		"--registered":             func(c *Config) { c.GPUs, c.Registered = 1, true },
		"-g":                       func(c *Config) { c.GPUs = -1 },
		"-r":                       func(c *Config) { c.Root = -2 },
		"-d or -o":                 func(c *Config) { c.Ops = nil },
	} {
		c := DefaultConfig()
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: error %v does not name it", flag, err)
		}
	}
}

func TestValidateListsAllFaults(t *testing.T) {
	c := DefaultConfig()
	c.Iters, c.Blocking, c.Threads = 0, 9, 0
	err := c.Validate()
	for _, flag := range []string{"-n 0", "-z 9", "-t 0"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v lacks %s", err, flag)
		}
	}
}

func TestValidateRoot(t *testing.T) {
	c := DefaultConfig()
	c.Root = 4
	if err := c.validateRoot(4); err == nil || !strings.Contains(err.Error(), "use 0 to 3") {
		t.Errorf("root 4 of 4: %v", err)
	}
	if c.Root = AllRoots; c.validateRoot(4) != nil {
		t.Error("all roots are refused")
	}
}

func TestParseCollectives(t *testing.T) {
	for _, c := range Collectives() {
		for _, name := range []string{c.String(), c.Program(), strings.TrimSuffix(c.Program(), "_perf"), strings.ToUpper(c.String())} {
			if got, err := ParseCollectives(name); err != nil || !slices.Equal(got, []Collective{c}) {
				t.Errorf("%q: %v, %v", name, got, err)
			}
		}
	}
	if all, err := ParseCollectives("all"); err != nil || len(all) != len(Collectives()) {
		t.Errorf("all: %v, %v", all, err)
	}
	if _, err := ParseCollectives("alltoall"); err == nil || !strings.Contains(err.Error(), `"alltoall"`) {
		t.Errorf("alltoall: %v", err)
	}
}

func TestParseOpsAndTypes(t *testing.T) {
	for _, name := range []string{"sum", "prod", "min", "max", "avg", "mulsum"} {
		if ops, err := ParseOps(name); err != nil || len(ops) != 1 || ops[0].String() != name {
			t.Errorf("%q: %v, %v", name, ops, err)
		}
	}
	if ops, err := ParseOps("all"); err != nil || len(ops) != 6 {
		t.Errorf("all: %v, %v", ops, err)
	}
	if types, err := ParseTypes("all"); err != nil || len(types) != 12 {
		t.Errorf("all: %v, %v", types, err)
	}
	for _, bad := range []string{"", "none", "SUM", "float16"} {
		if _, err := ParseOps(bad); err == nil {
			t.Errorf("operator %q passes", bad)
		}
		if _, err := ParseTypes(bad); err == nil || !strings.Contains(err.Error(), "bfloat16") {
			t.Errorf("type %q: %v", bad, err)
		}
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		mask, text string
		want       []int // groups of processes 0..7
	}{
		{"", "", []int{0, 0, 0, 0, 0, 0, 0, 0}},
		{"1", "MOD 4", []int{0, 1, 0, 1, 0, 1, 0, 1}},
		{"0x6", "", []int{0, 0, 2, 2, 4, 4, 6, 6}},
		{"", "MOD 3", []int{0, 1, 2, 0, 1, 2, 0, 1}},
		{"", "%3", []int{0, 1, 2, 0, 1, 2, 0, 1}},
		{"", "div 4", []int{0, 0, 0, 0, 1, 1, 1, 1}},
		{"", "/0x4", []int{0, 0, 0, 0, 1, 1, 1, 1}},
		{"", "AND 0b11", []int{0, 1, 2, 3, 0, 1, 2, 3}},
		{"", "&0x7", []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{"", "OR 6", []int{6, 7, 6, 7, 6, 7, 6, 7}},
		{"", "| 6", []int{6, 7, 6, 7, 6, 7, 6, 7}},
	} {
		s, err := ParseSplit(c.mask, c.text)
		if err != nil {
			t.Errorf("%q %q: %v", c.mask, c.text, err)
			continue
		}
		for p, want := range c.want {
			if got := s.Group(p); got != want {
				t.Errorf("%q %q: process %d is in group %d, want %d", c.mask, c.text, p, got, want)
			}
		}
	}
	for _, text := range []string{"MOD 0", "DIV 0", "XOR 3", "MOD", "MOD x", "8", "MOD -2"} {
		if _, err := ParseSplit("", text); err == nil || !strings.Contains(err.Error(), "NCCL_TESTS_SPLIT") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ParseSplit("0xg", ""); err == nil || !strings.Contains(err.Error(), "NCCL_TESTS_SPLIT_MASK") {
		t.Errorf("bad mask: %v", err)
	}
}

func FuzzParseSplit(f *testing.F) {
	f.Add("", "MOD 8")
	f.Add("0x7", "")
	f.Fuzz(func(t *testing.T, mask, text string) {
		if s, err := ParseSplit(mask, text); err == nil && s.Group(12345) < 0 {
			t.Fatalf("%q %q: group %d", mask, text, s.Group(12345))
		}
	})
}

func TestMemoryLimits(t *testing.T) {
	if got := memAvailable("MemTotal: 8 kB\nMemAvailable:    4096 kB\n"); got != 4<<20 {
		t.Errorf("meminfo: %d", got)
	}
	for _, text := range []string{"", "MemAvailable:", "MemAvailable: x kB", "MemAvailable: 1 MB"} {
		if got := memAvailable(text); got != plenty {
			t.Errorf("meminfo %q: %d", text, got)
		}
	}
	if got := groupAvailable("1000\n", "400\n"); got != 600 {
		t.Errorf("group: %d", got)
	}
	if got := groupAvailable("400", "1000"); got != 0 {
		t.Errorf("full group: %d", got)
	}
	if got := groupAvailable("max\n", "400\n"); got != plenty {
		t.Errorf("group without limit: %d", got)
	}
	if got := availableMemory(); got <= 0 {
		t.Errorf("available: %d", got)
	}
}
