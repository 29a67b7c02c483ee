// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/internal/fakecuda"
	"github.com/hfreduce/hfreduce/internal/testreq"
)

// made is the folder of built, "" if nobody needed it.
var made string

// built is the library and the program that uses it, made once.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "libhfreduce-")
	if err != nil {
		return "", err
	}
	made = dir
	folder, err := os.Getwd()
	if err != nil {
		return dir, err
	}
	lib := filepath.Join(dir, "libhfreduce.so.0")
	flags := fmt.Sprintf("-extldflags '-Wl,--version-script=%s/libhfreduce.map -Wl,-soname,libhfreduce.so.0'", folder)
	for _, args := range [][]string{
		{"go", "build", "-buildmode=c-shared", "-ldflags", flags, "-o", lib, "."},
		{"gcc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I.", "-o", filepath.Join(dir, "conform"), "testdata/conform.c", lib, "-ldl", "-pthread", "-Wl,-rpath,$ORIGIN"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("%v: %w\n%s", cmd, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	if err := fakecuda.Use(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if made != "" {
		os.RemoveAll(made)
	}
	os.Exit(code)
}

// library returns the folder with both; it skips the test where there is no C compiler.
func library(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		testreq.Missing(t, "tools", err.Error())
	}
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs the program as the ranks of a job on nodes of two, each of which must end well and say so, but for those that are to be lost.
func run(t *testing.T, mode string, ranks int, lost []int, env ...string) {
	t.Helper()
	dir := library(t)
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := port.Addr().String()
	_ = port.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for rank := range ranks {
		cmd := exec.CommandContext(ctx, filepath.Join(dir, "conform"), mode)
		cmd.Env = slices.Concat(os.Environ(), env, []string{
			fmt.Sprintf("HFREDUCE_RANK=%d", rank), fmt.Sprintf("HFREDUCE_WORLD_SIZE=%d", ranks), "HFREDUCE_RENDEZVOUS=" + at,
			fmt.Sprintf("HFREDUCE_NODE=node%d", rank/2), "HFREDUCE_JOB_ID=" + t.Name(),
		})
		wg.Go(func() {
			out, err := cmd.CombinedOutput()
			if slices.Contains(lost, rank) {
				return
			}
			if err != nil || !strings.HasSuffix(string(out), "ok\n") {
				t.Errorf("rank %d: %v\n%s", rank, err, out)
			}
		})
	}
	wg.Wait()
}

func TestCollectivesFromC(t *testing.T) { run(t, "collectives", 3, nil) }

func TestAbortFromC(t *testing.T) { run(t, "abort", 3, nil) }

func TestLostRankFromC(t *testing.T) { run(t, "lost", 4, []int{1}) }

func TestGPUFromC(t *testing.T) {
	fakecuda.NeedFake(t)
	run(t, "gpu", 2, nil)
}

// TestMilliseconds: no number of C's turns into another meaning.
func TestMilliseconds(t *testing.T) {
	for _, c := range []struct{ got, want time.Duration }{
		{milliseconds(0), 0}, {milliseconds(1500), 1500 * time.Millisecond}, {milliseconds(-1), -time.Millisecond},
		{milliseconds(math.MinInt64), -time.Millisecond}, {milliseconds(math.MaxInt64), math.MaxInt64 / time.Millisecond * time.Millisecond},
	} {
		if c.got != c.want {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}

// TestSymbols: the library shows what the header declares, the map lists the same, and it needs the C library alone.
func TestSymbols(t *testing.T) {
	dir := library(t)
	header, err := os.ReadFile("hfreduce.h")
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	for _, m := range regexp.MustCompile(`(?m)^(?:hfr_status|const char \*)\s*(hfr_\w+)\(`).FindAllSubmatch(header, -1) {
		declared = append(declared, string(m[1]))
	}
	slices.Sort(declared)
	f, err := elf.Open(filepath.Join(dir, "libhfreduce.so.0"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF && elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			shown = append(shown, s.Name)
		}
	}
	slices.Sort(shown)
	if len(declared) < 15 || !slices.Equal(declared, shown) {
		t.Errorf("the header declares %v,\nthe library shows %v", declared, shown)
	}
	for _, p := range f.Progs { // else it cannot be loaded late, into Python for instance
		if p.Type == elf.PT_TLS && p.Memsz > 64 {
			t.Errorf("it has %d bytes of thread-local memory", p.Memsz)
		}
	}
	needs, err := f.ImportedLibraries()
	if needs = slices.DeleteFunc(needs, func(s string) bool { return s == "libc.so.6" || strings.HasPrefix(s, "ld-linux-") }); err != nil || len(needs) > 0 {
		t.Errorf("it needs %v besides the C library, %v", needs, err)
	}
	if names, err := f.DynString(elf.DT_SONAME); err != nil || !slices.Equal(names, []string{"libhfreduce.so.0"}) {
		t.Errorf("it is called %v, %v", names, err)
	}
}

// TestHeaderIsCPlusPlus: C++ takes the header, too.
func TestHeaderIsCPlusPlus(t *testing.T) {
	compiler, err := exec.LookPath("g++")
	if err != nil {
		testreq.Missing(t, "tools", err.Error())
	}
	cmd := exec.Command(compiler, "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-x", "c++", "-I.", "-")
	cmd.Stdin = strings.NewReader("#include \"hfreduce.h\"\nint main() { hfr_comm c; return hfr_init(nullptr, &c) == HFR_OK; }\n")
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: %s", err, out.String())
	}
}
