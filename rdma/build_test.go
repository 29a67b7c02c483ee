// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package rdma

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// TestBuildNeedsNoLibrary: the program is not linked with libibverbs, and exports nothing that the library's own calls
// could bind to.
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
	if i := slices.IndexFunc(libraries, func(s string) bool { return strings.Contains(s, "verbs") }); i >= 0 {
		t.Errorf("the program needs %s to start", libraries[i])
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if strings.HasPrefix(s.Name, "ibv_") || strings.HasPrefix(s.Name, "vb_") {
			t.Errorf("the program has the dynamic symbol %s", s.Name)
		}
	}
}

// TestBuildWithoutHeader builds the package as if rdma-core's header were missing, and runs the tests of that.
func TestBuildWithoutHeader(t *testing.T) {
	if os.Getenv(envMissing) != "" {
		return // this is that run
	}
	for _, tool := range []string{"go", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			testreq.Missing(t, "tools", err.Error())
		}
	}
	missing := "built without rdma-core's infiniband/verbs.h"
	cmd := exec.Command("go", "test", "-count=1", "-run", "^(TestLibrary|TestObject)", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "CGO_CFLAGS=-O0 -Werror -DHFREDUCE_NO_VERBS", envMissing+"="+missing, testreq.Variable+"=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", cmd, err, out)
	}
}

// TestBuildWithOtherLibrary runs the tests of a missing library with one that is no library, and one that lacks symbols.
func TestBuildWithOtherLibrary(t *testing.T) {
	if os.Getenv(envMissing) != "" {
		return // this is such a run
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		testreq.Missing(t, "tools", err.Error())
	}
	if load() != nil {
		return // it may be the header that is missing
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	broken, empty := t.TempDir(), t.TempDir()
	const soname = "libibverbs.so.1"
	if err := os.WriteFile(filepath.Join(broken, soname), []byte("not an ELF file, but long enough to be looked at as if it were one"), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command(gcc, "-shared", "-x", "c", "-o", filepath.Join(empty, soname), "-Wl,-soname,"+soname, os.DevNull)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	for dir, missing := range map[string]string{broken: "libibverbs.so.1: invalid ELF header", empty: "libibverbs.so.1 has no ibv_get_device_list@IBVERBS_1.1"} {
		cmd := exec.Command(self, "-test.run", "^TestLibrary")
		cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+dir, envMissing+"="+missing, testreq.Variable+"=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", cmd, err, out)
		}
	}
}

// TestBuildDocumentsEveryFunction holds what the wrappers say they implement against what is called.
func TestBuildDocumentsEveryFunction(t *testing.T) {
	said, called := map[string]bool{}, map[string]bool{}
	collect(t, "*.go", regexp.MustCompile(`(?m)^// Implements: ((?:ibv_\w+(?:, |\.$))+)`), said)
	collect(t, "library.h", regexp.MustCompile(`(?m)^\tX\((\w+), "IBVERBS`), called)
	collect(t, "library.h", regexp.MustCompile(`\*(query_port|reg_mr_iova2|reg_dmabuf_mr);`), called)
	collect(t, "*.c", regexp.MustCompile(`ibv_(post_send|post_recv|poll_cq|req_notify_cq)\(`), called)
	for name := range called {
		if !said["ibv_"+name] {
			t.Errorf("ibv_%s is called, but no comment says \"Implements: ibv_%s.\"", name, name)
		}
		delete(said, "ibv_"+name)
	}
	for name := range said {
		t.Errorf("a comment says that it implements %s, which is not called", name)
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
