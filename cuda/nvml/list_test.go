// SPDX-License-Identifier: Apache-2.0

//go:build nvml && cgo && linux

package nvml

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// A process can use one library, so each is used by a run of this test program of its own.
const (
	envLibrary = "HFREDUCE_NVML_TEST_LIBRARY"
	answerMark = "answer: "
)

// answer is what list returned there.
type answer struct {
	GPUs        []GPU
	Error       string
	Unsupported bool
}

func TestMain(m *testing.M) {
	library := os.Getenv(envLibrary)
	if library == "" {
		os.Exit(m.Run())
	}
	var a answer
	for range 2 { // the second time as the first
		gpus, err := list(library)
		a = answer{GPUs: gpus, Unsupported: errors.Is(err, errors.ErrUnsupported)}
		if err != nil {
			a.Error = err.Error()
		}
	}
	text, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	fmt.Println(answerMark + string(text))
}

// ask runs list on a library in a process of its own.
func ask(t *testing.T, library string) (a answer) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envLibrary+"="+library, "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the process that used %s ended with %v\n%s", library, err, out)
	}
	_, text, _ := strings.Cut(string(out), answerMark)
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return a
}

// fake builds the library of testdata, with macros defined, in a folder of the test.
func fake(t *testing.T, macros ...string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		testreq.Missing(t, "tools", err.Error())
	}
	path := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	arguments := []string{"-shared", "-fPIC", "-Wall", "-Werror", "-o", path, filepath.Join("testdata", "fake.c")}
	for _, m := range macros {
		arguments = append(arguments, "-D"+m)
	}
	if out, err := exec.Command(gcc, arguments...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}

func TestGPUs(t *testing.T) {
	for name, c := range map[string]struct {
		macros []string
		want   string
	}{
		"all": {nil, "[{Index:0 Name:Fake A100 UUID:GPU-0 PCIAddress:0000:65:00.0 NVLinks:[0000:ca:00.0] PCIeGeneration:4 PCIeWidth:16} " +
			"{Index:1 Name:Fake A100 UUID:GPU-1 PCIAddress:0000:ca:00.0 NVLinks:[0000:65:00.0] PCIeGeneration:4 PCIeWidth:16} " +
			"{Index:2 Name:Fake A100 UUID:GPU-2 PCIAddress:10000:01:00.0 NVLinks:[] PCIeGeneration:0 PCIeWidth:0}]"},
		"old": {[]string{"OLD"}, "[{Index:0 Name:Fake A100 UUID:GPU-0 PCIAddress:0000:65:00.0 NVLinks:[] PCIeGeneration:0 PCIeWidth:0} " +
			"{Index:1 Name:Fake A100 UUID:GPU-1 PCIAddress:0000:ca:00.0 NVLinks:[] PCIeGeneration:0 PCIeWidth:0} " +
			"{Index:2 Name:Fake A100 UUID:GPU-2 PCIAddress:10000:01:00.0 NVLinks:[] PCIeGeneration:0 PCIeWidth:0}]"},
		"another job's": {[]string{"CLOSED=0"}, "[{Index:1 Name:Fake A100 UUID:GPU-1 PCIAddress:0000:ca:00.0 NVLinks:[0000:65:00.0] PCIeGeneration:4 PCIeWidth:16} " +
			"{Index:2 Name:Fake A100 UUID:GPU-2 PCIAddress:10000:01:00.0 NVLinks:[] PCIeGeneration:0 PCIeWidth:0}]"},
		"none": {[]string{"COUNT=0"}, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			a := ask(t, fake(t, c.macros...))
			if got := fmt.Sprintf("%+v", a.GPUs); got != c.want || a.Error != "" {
				t.Errorf("got %s, %s\nwant %s", got, a.Error, c.want)
			}
		})
	}
}

func TestGPUsErrors(t *testing.T) {
	text := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	if err := os.WriteFile(text, []byte(strings.Repeat("no library\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		library     string
		unsupported bool
		says        string
	}{
		"no library":      {"libhfreduce-is-not-there.so.1", true, "libhfreduce-is-not-there.so.1: cannot open"},
		"a text":          {text, true, "invalid ELF header"},
		"no driver":       {fake(t, "INIT=9"), true, "code 9"},
		"version differs": {fake(t, "INIT=18"), false, "nvmlInit: code 18"},
		"lost":            {fake(t, "HANDLE=15"), false, "nvmlDeviceGetHandleByIndex(0): code 15"},
		"without names":   {fake(t, "NAME=15"), false, "nvmlDeviceGetName of GPU 0: code 15"},
		"ends badly":      {fake(t, "SHUTDOWN=999"), false, "nvmlShutdown: code 999"},
		"lacks much":      {fake(t, "POOR"), true, "has no function nvmlErrorString"},
	} {
		t.Run(name, func(t *testing.T) {
			if a := ask(t, c.library); a.GPUs != nil || a.Unsupported != c.unsupported || !strings.Contains(a.Error, c.says) {
				t.Errorf("got %+v, want an error that says %q, unsupported: %t", a, c.says, c.unsupported)
			}
		})
	}
}

// TestTagIsNeeded: when this fails, go-nvml lets programs start that bind all functions at once, and the tag can go.
func TestTagIsNeeded(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LD_BIND_NOW=1", envLibrary+"=libhfreduce-is-not-there.so.1")
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != 127 || !strings.Contains(string(out), "undefined symbol: nvml") {
		t.Errorf("with LD_BIND_NOW=1: %v\n%s", err, out)
	}
}
