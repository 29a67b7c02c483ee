// SPDX-License-Identifier: Apache-2.0

package fakecuda

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"
)

func TestBuild(t *testing.T) {
	t.Setenv(Variable, "")
	Need(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	path, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	symbols, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cudaGetDeviceCount", "cudaMemcpyAsync", "cuStreamBatchMemOp_v2", "cuGetErrorName"} {
		if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == name && s.Section != elf.SHN_UNDEF }) {
			t.Errorf("the library has no %s", name)
		}
	}
	again, err := Build()
	if err != nil || again != path {
		t.Errorf("built %s, then %s, %v", path, again, err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the library was built again: %v", err)
	}
}

func TestUse(t *testing.T) {
	Need(t)
	for _, name := range libraries() {
		t.Setenv(name, "")
	}
	t.Setenv(Variable, "real")
	if err := Use(); err != nil || os.Getenv(libraries()[0]) != "" {
		t.Errorf("real is %q, %v", os.Getenv(libraries()[0]), err)
	}
	t.Setenv(Variable, "")
	if err := Use(); err != nil {
		t.Fatal(err)
	}
	for _, name := range libraries() {
		if _, err := os.Stat(os.Getenv(name)); err != nil {
			t.Error(err)
		}
	}
}

func TestBuildWithoutCompiler(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Build(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	t.Setenv(Variable, "")
	t.Setenv(libraries()[0], "")
	if err := Use(); err != nil || os.Getenv(libraries()[0]) != "" {
		t.Errorf("use: %v", err)
	}
}
