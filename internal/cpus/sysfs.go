// SPDX-License-Identifier: Apache-2.0

package cpus

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Online returns the processors of this machine.
func Online() (Set, error) { return readList(os.DirFS("/sys"), "devices/system/cpu/online") }

// NUMA returns the processors of each NUMA node of the machine whose /sys is sys, those without processors left out. A
// kernel without NUMA has one node: all is that.
func NUMA(sys fs.FS, all Set) ([]Set, error) {
	paths, err := fs.Glob(sys, "devices/system/node/node*/cpulist")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(paths, func(a, b string) int { return nodeNumber(a) - nodeNumber(b) })
	var nodes []Set
	for _, path := range paths {
		s, err := readList(sys, path)
		if err != nil {
			return nil, err
		}
		if s = s.Intersection(all); s != "" {
			nodes = append(nodes, s)
		}
	}
	if len(nodes) == 0 {
		return []Set{all}, nil
	}
	return nodes, nil
}

func readList(sys fs.FS, path string) (Set, error) {
	list, err := fs.ReadFile(sys, path)
	if err != nil {
		return "", fmt.Errorf("cpus: %w", err)
	}
	return Parse(string(list))
}

// NodeOf returns the number of the NUMA node of the machine whose /sys is sys that has all processors of s, -1 if they are
// of several, or it is not known.
func NodeOf(sys fs.FS, s Set) int {
	paths, err := fs.Glob(sys, "devices/system/node/node*/cpulist")
	if err != nil || s == "" {
		return -1
	}
	for _, path := range paths {
		node, err := readList(sys, path)
		if err == nil && s.Intersection(node) == s {
			return nodeNumber(path)
		}
	}
	return -1
}

// nodeNumber returns the number in the path of a node's list of processors.
func nodeNumber(path string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(path))[len("node"):])
	if err != nil {
		return -1
	}
	return n
}
