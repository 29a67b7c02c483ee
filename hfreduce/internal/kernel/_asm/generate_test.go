// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestGenerated fails when what is checked in differs from what the generator writes, or is not written any more.
func TestGenerated(t *testing.T) {
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator writes (%v): run make generate", name, err)
		}
	}
	present, err := filepath.Glob("../*_amd64.s")
	if err != nil || len(present) == 0 {
		t.Fatalf("no assembly: %v", err)
	}
	for _, path := range present {
		if name := filepath.Base(path); files[name] == nil {
			t.Errorf("%s is not written by the generator any more: delete it", name)
		}
	}
}

// TestFamiliesAreComplete makes sure that every type is in every family it belongs to: a kernel that is missing would be
// called as noKernel, which does nothing.
func TestFamiliesAreComplete(t *testing.T) {
	narrow := []string{"BFloat16", "Float16", "Float8E4M3", "Float8E5M2"}
	all := append([]string{"Float32", "Float64", "Int32", "Int64", "Int8", "Uint32", "Uint64", "Uint8"}, narrow...)
	slices.Sort(all)
	for _, f := range families() {
		got := slices.Sorted(slices.Values(slices.Concat(f.types...)))
		want := all
		if f.name == "Widen" || f.name == "Narrow" {
			want = narrow
		}
		if f.name == "Paired" { // instead of Sum, where there is the instruction
			want = []string{"Float8E4M3", "Float8E5M2"}
		}
		if !slices.Equal(got, want) {
			t.Errorf("family %s serves %v, want %v", f.name, got, want)
		}
	}
}
