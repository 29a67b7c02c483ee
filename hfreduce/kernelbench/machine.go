// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// choose returns the processor of Config.CPU among those that the process may use.
func choose(choice int, allowed []int) (int, error) {
	switch {
	case choice == LastCPU:
		return allowed[len(allowed)-1], nil
	case slices.Contains(allowed, choice):
		return choice, nil
	}
	return 0, fmt.Errorf("--bind %d: this process may use the processors %v; give one of them, last or none: %w", choice, allowed, hfreduce.ErrInvalid)
}

// machine is what figures depend on.
type machine struct {
	Model  string  `json:"cpu_model"`
	Caches []cache `json:"caches"` // of the processor in use, the smallest first
	CPU    int     `json:"cpu"`    // the processor in use, -2 if not pinned
	Huge   string  `json:"huge_pages"`
	Go     string  `json:"go"`
	OS     string  `json:"os"`
	Arch   string  `json:"arch"`
}

// cache is one that holds data.
type cache struct {
	Level int   `json:"level"`
	Bytes int64 `json:"bytes"`
}

// describeMachine reads what the system tells; what it does not tell is missing.
func describeMachine(cpu int, arenaBytes int64) machine {
	info, _ := os.ReadFile("/proc/cpuinfo")
	m := machine{
		Model: modelName(string(info)), Caches: readCaches(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/cache", max(0, cpu))), CPU: cpu,
		Huge: "not known", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
	if huge, ok := hugePages(); ok {
		m.Huge = fmt.Sprintf("%d of %d MiB", min(huge, arenaBytes)>>20, arenaBytes>>20)
	}
	return m
}

// modelName reads the processor's name from the text of /proc/cpuinfo.
func modelName(info string) string {
	for line := range strings.Lines(info) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// readCaches reads a processor's folder of caches in /sys.
func readCaches(dir string) []cache {
	all := []cache{}
	folders, _ := filepath.Glob(filepath.Join(dir, "index*"))
	for _, folder := range folders {
		read := func(name string) string {
			text, _ := os.ReadFile(filepath.Join(folder, name))
			return strings.TrimSpace(string(text))
		}
		level, err := strconv.Atoi(read("level"))
		kib, err2 := strconv.ParseInt(strings.TrimSuffix(read("size"), "K"), 10, 53)
		if err == nil && err2 == nil && read("type") != "Instruction" {
			all = append(all, cache{level, kib << 10})
		}
	}
	slices.SortFunc(all, func(a, b cache) int { return a.Level - b.Level })
	return all
}

// line returns the machine as a line of the report.
func (m machine) line() string {
	var b strings.Builder
	b.WriteString(m.Model)
	for _, c := range m.Caches {
		fmt.Fprintf(&b, ", L%d %d KiB", c.Level, c.Bytes>>10)
	}
	if m.CPU >= 0 {
		fmt.Fprintf(&b, ", pinned to processor %d", m.CPU)
	} else {
		b.WriteString(", not pinned")
	}
	return b.String()
}

// keeps reports whether caches may keep something of a working set from one call to the next.
func (m machine) keeps(size int64) bool {
	last := int64(32 << 20) // where the system does not tell
	if len(m.Caches) > 0 {
		last = m.Caches[len(m.Caches)-1].Bytes
	}
	return size <= 2*last
}
