// SPDX-License-Identifier: Apache-2.0

// Package fakecuda lets tests run on a CUDA that needs no GPU: testdata/fakecuda, C sources that gcc makes one shared
// library of, with the functions of CUDA's runtime and driver in it.
//
// TestMain calls Use before anything loads CUDA, and a test that needs CUDA calls Need. With HFREDUCE_TEST_CUDA=real the
// same tests run on the machine's CUDA and GPU.
package fakecuda

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// Variable is the environment variable that says on what tests of CUDA run: "real" for the machine's, else the fake.
const Variable = "HFREDUCE_TEST_CUDA"

// libraries are the variables by which package cuda finds its libraries.
func libraries() []string { return []string{"HFREDUCE_CUDART", "HFREDUCE_LIBCUDA"} }

// Real reports whether tests shall run on the machine's CUDA.
func Real() bool { return os.Getenv(Variable) == "real" }

// Use lets package cuda find the fake, in this process and those that it starts; nothing may have loaded CUDA before. It
// does nothing if Real, or where gcc is missing: Need says so to the tests.
func Use() error {
	if Real() {
		return nil
	}
	path, err := Build()
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	for _, name := range libraries() {
		err = errors.Join(err, os.Setenv(name, path))
	}
	return err
}

// Need skips the test where there is neither the fake, for lack of gcc, nor Real.
func Need(t testing.TB) {
	t.Helper()
	if Real() {
		return
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		testreq.Missing(t, "tools", err.Error())
	}
}

// NeedFake skips a test that only the fake can be told to serve: with faults, other devices, or otherwise than CUDA is here.
func NeedFake(t testing.TB) {
	t.Helper()
	if Real() {
		testreq.Missing(t, "fakecuda", Variable+"=real")
	}
	Need(t)
}

// flags are gcc's.
func flags() []string {
	return []string{"-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"}
}

// Build makes the fake, unless an earlier call did of the same sources, and returns its path. The error is
// exec.ErrNotFound where gcc is missing.
func Build() (path string, err error) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return "", fmt.Errorf("fakecuda: %w", err)
	}
	sources, err := find()
	if err != nil {
		return "", err
	}
	sum, err := digest(sources)
	if err != nil {
		return "", fmt.Errorf("fakecuda: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	path = filepath.Join(cache, "hfreduce", "fakecuda", "libfakecuda-"+sum+".so")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, compile(gcc, sources, path)
}

// compile makes the library beside where it shall be and then moves it there: other tests may do the same now.
func compile(gcc string, sources []string, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("fakecuda: %w", err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), "build")
	if err != nil {
		return fmt.Errorf("fakecuda: %w", err)
	}
	made := filepath.Join(dir, "made.so")
	args := append(flags(), "-o", made)
	for _, name := range sources {
		if filepath.Ext(name) == ".c" {
			args = append(args, name)
		}
	}
	if out, err := exec.Command(gcc, append(args, "-lrt")...).CombinedOutput(); err != nil {
		return fmt.Errorf("fakecuda: gcc: %w\n%s", errors.Join(err, os.RemoveAll(dir)), out)
	}
	if err := errors.Join(os.Rename(made, path), os.RemoveAll(dir)); err != nil {
		return fmt.Errorf("fakecuda: %w", err)
	}
	return nil
}

// find returns the sources and headers, from anywhere in the module.
func find() ([]string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("fakecuda: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return nil, errors.New("fakecuda: the working directory is not in the module")
		}
		dir = filepath.Dir(dir)
	}
	sources, err := filepath.Glob(filepath.Join(dir, "testdata", "fakecuda", "*.[ch]"))
	if err == nil && len(sources) == 0 {
		err = errors.New("no sources in testdata/fakecuda")
	}
	if err != nil {
		return nil, fmt.Errorf("fakecuda: %w", err)
	}
	slices.Sort(sources)
	return sources, nil
}

// digest names what the library is made of.
func digest(sources []string) (string, error) {
	h := sha256.New()
	fmt.Fprint(h, flags())
	for _, name := range sources {
		b, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "\n%s %d\n%s", filepath.Base(name), len(b), b)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}
