// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package cuda

import (
	"debug/elf"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// TestBuildNeedsNoLibrary: the program is not linked with CUDA, and exports nothing that the libraries' own calls could
// bind to.
func TestBuildNeedsNoLibrary(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	libraries, err := file.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(libraries, func(s string) bool { return strings.Contains(s, "cuda") }); i >= 0 {
		t.Errorf("the program needs %s to start", libraries[i])
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if strings.HasPrefix(s.Name, "cu") {
			t.Errorf("the program has the dynamic symbol %s", s.Name)
		}
	}
}

// TestBuildWithOtherLibrary runs the tests of a missing library with paths to nothing, with what is no library, and with
// libraries that lack symbols.
func TestBuildWithOtherLibrary(t *testing.T) {
	if inner() {
		return // this is such a run
	}
	dir := t.TempDir()
	broken, empty, whole := filepath.Join(dir, "broken.so"), filepath.Join(dir, "empty.so"), filepath.Join(dir, "whole.so")
	if err := os.WriteFile(broken, []byte("not an ELF file, but long enough to be looked at as if it were one"), 0o600); err != nil {
		t.Fatal(err)
	}
	compileC(t, empty, "-x", "c", os.DevNull)
	compileC(t, whole, "testdata/recorder/all.c")
	none, named := filepath.Join(dir, "none.so"), filepath.Join(dir, "named.so")
	compileC(t, named, "-Wl,-soname,libcudart.so.12", "testdata/recorder/all.c")
	for _, c := range []struct{ runtime, driver, missing string }{
		{none, whole, "HFREDUCE_CUDART: " + none + ": cannot open shared object file"},
		{broken, whole, "HFREDUCE_CUDART: " + broken + ": invalid ELF header"},
		{empty, whole, empty + " has no cudaRuntimeGetVersion"},
		{named, none, "no NVIDIA driver: " + none + ": cannot open shared object file"},
		{whole, empty, empty + " has no cuGetErrorName"},
	} {
		again(t, "^TestLibraryThatIsMissing$", c.runtime, c.driver, envMissing+"="+c.missing)
	}
	again(t, "^TestLibraryThatComesLater$", none, whole, envLater+"="+named)
	renamed := filepath.Join(dir, "libcudart-9335f6a2.so.12")
	compileC(t, renamed, "-Wl,-soname,"+filepath.Base(renamed), "testdata/recorder/all.c")
	again(t, "^TestLibraryOfOthers$", none, whole, envOthers+"=libcudart.so.12", "LD_PRELOAD="+named)
	again(t, "^TestLibraryOfOthers$", none, whole, envOthers+"="+filepath.Base(renamed), "LD_PRELOAD="+renamed)
}

// TestBuildDocumentsEveryFunction holds what the wrappers say they implement against what is loaded.
func TestBuildDocumentsEveryFunction(t *testing.T) {
	said, called := map[string]bool{}, map[string]bool{}
	collect(t, "*.go", regexp.MustCompile(`(?m)^// Implements: ((?:cu\w+(?:, |\.$))+)`), said)
	collect(t, "abi.h", regexp.MustCompile(`(?m)^\tX\([^,]+, (cu\w+), \(`), called)
	for _, plumbing := range []string{"cudaGetDevice", "cudaSetDevice", "cudaGetLastError", "cudaGetErrorName", "cudaGetErrorString",
		"cuGetErrorName", "cuGetErrorString", "cuDevicePrimaryCtxGetState", "cuCtxGetCurrent", "cuDriverGetVersion", "cudaThreadExchangeStreamCaptureMode"} { // part of all calls
		if !called[plumbing] {
			t.Errorf("%s is not loaded", plumbing)
		}
		delete(called, plumbing)
	}
	for name := range called {
		if !said[name] {
			t.Errorf("%s is loaded, but no comment says \"Implements: %s.\"", name, name)
		}
		delete(said, name)
	}
	for name := range said {
		t.Errorf("a comment says that it implements %s, which is not loaded", name)
	}
}

// collect adds the first group of each match in the files, divided at commas.
func collect(t *testing.T, glob string, re *regexp.Regexp, into map[string]bool) {
	t.Helper()
	paths, err := filepath.Glob(glob)
	if err != nil || len(paths) == 0 {
		testreq.Missing(t, "tools", "the sources are not in the working directory")
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range re.FindAllStringSubmatch(string(b), -1) {
			for name := range strings.SplitSeq(strings.TrimSuffix(m[1], "."), ", ") {
				into[name] = true
			}
		}
	}
}
