// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"errors"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce"
)

func TestNames(t *testing.T) {
	for _, o := range Ops() {
		if got, err := ParseOps(o.String()); err != nil || len(got) != 1 || got[0] != o {
			t.Errorf("%s: %v, %v", o, got, err)
		}
	}
	for _, v := range Variants() {
		if got, err := ParseVariants(v.String()); err != nil || len(got) != 1 || got[0] != v {
			t.Errorf("%s: %v, %v", v, got, err)
		}
	}
	for s := AutoStores; s <= BothStores; s++ {
		if got, err := ParseStores(s.String()); err != nil || got != s {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	if got, err := ParseTypes("all"); err != nil || len(got) != 12 {
		t.Errorf("all types: %v, %v", got, err)
	}
	if got, err := ParseBackends("all"); err != nil || got[0] != "generic" {
		t.Errorf("all backends: %v, %v", got, err)
	}
	_, ops := ParseOps("xor")
	_, variants := ParseVariants("")
	_, stores := ParseStores("all")
	_, types := ParseTypes("float16")
	_, backends := ParseBackends("neon")
	for want, err := range map[string]error{"mulsum": ops, "second": variants, "auto": stores, "bfloat16": types, "generic": backends} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if Op(99).String() == "" || Variant(99).String() == "" || Stores(99).String() == "" {
		t.Error("made-up constants have no name")
	}
}

func TestValidate(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for want, set := range map[string]func(c *Config){
		"--dtype DataType(77)":       func(c *Config) { c.Types = []hfreduce.DataType{77} },
		"--op kernelbench.Op(9)":     func(c *Config) { c.Ops = []Op{9} },
		"--sources 0: give 1":        func(c *Config) { c.Sources = []int{2, 0} },
		"--sources 33: give 1 to 32": func(c *Config) { c.Sources = []int{33} },
		"--size 4095: give":          func(c *Config) { c.Sizes = []int64{4095} },
		"--size 2199023255552":       func(c *Config) { c.Sizes = []int64{1 << 41} },
		"--backend neon":             func(c *Config) { c.Backends = []string{"neon"} },
		"--out kernelbench.Variant":  func(c *Config) { c.Variants = []Variant{9} },
		"--stores kernelbench":       func(c *Config) { c.Stores = 9 },
		"--rounds 0: give":           func(c *Config) { c.Rounds = 0 },
		"--bind -3: give":            func(c *Config) { c.CPU = -3 },
		"name at least one":          func(c *Config) { c.Ops = nil },
		"plain stores only":          func(c *Config) { c.Backends, c.Stores = []string{"generic"}, StreamStores },
		"have no wider output":       func(c *Config) { c.Types, c.Variants = c.Types[:1], []Variant{WideOut} },
	} {
		c := DefaultConfig()
		set(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
		if _, err := Run(t.Context(), c, Output{}); !errors.Is(err, hfreduce.ErrInvalid) {
			t.Errorf("%s: Run returns %v", want, err)
		}
	}
}

func TestMachine(t *testing.T) {
	if got := modelName("processor : 0\nmodel\t: 17\nmodel name\t: Some CPU: fast\n"); got != "Some CPU: fast" {
		t.Errorf("model %q", got)
	}
	if got := modelName("garbage"); got != "unknown processor" {
		t.Errorf("model %q", got)
	}
	if got := readCaches("/no/such/folder"); got == nil || len(got) != 0 {
		t.Errorf("caches %v", got)
	}
	m := machine{Model: "X", CPU: AnyCPU, Caches: []cache{{1, 32 << 10}, {3, 1 << 20}}}
	if got := m.line(); got != "X, L1 32 KiB, L3 1024 KiB, not pinned" {
		t.Errorf("line %q", got)
	}
	if !m.keeps(2<<20) || m.keeps(2<<20+1) {
		t.Error("caches keep twice their size and no more")
	}
	if kib, ok := kibibytes("A: 1 kB\nMemAvailable:   123 kB\n", "MemAvailable:"); !ok || kib != 123 {
		t.Errorf("%d, %t", kib, ok)
	}
	if _, ok := kibibytes("MemAvailable: many\n", "MemAvailable:"); ok {
		t.Error("garbage passes")
	}
	if cpu, err := choose(LastCPU, []int{2, 5}); cpu != 5 || err != nil {
		t.Errorf("last: %d, %v", cpu, err)
	}
	if _, err := choose(3, []int{2, 5}); !errors.Is(err, hfreduce.ErrInvalid) || !strings.Contains(err.Error(), "[2 5]") {
		t.Errorf("not allowed: %v", err)
	}
}
