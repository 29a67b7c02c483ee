// SPDX-License-Identifier: Apache-2.0

//go:build !nvml || !cgo || !linux

package nvml

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A program without the tag starts whatever the loader is told, and says what it lacks.
func TestWithoutNVML(t *testing.T) {
	gpus, err := GPUs()
	if gpus != nil || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "-tags nvml") || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("got %v, %v", gpus, err)
	}
	const mark = "HFREDUCE_NVML_TEST_CHILD"
	if os.Getenv(mark) != "" {
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestWithoutNVML$", "-test.v")
	cmd.Env = append(os.Environ(), "LD_BIND_NOW=1", mark+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestWithoutNVML") {
		t.Errorf("with LD_BIND_NOW=1: %v\n%s", err, out)
	}
}
