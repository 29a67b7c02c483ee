// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/hfreduce/hfreduce/internal/fakecuda"
	"github.com/hfreduce/hfreduce/internal/testreq"
)

// The variables of runs of these tests that other tests start: what Library must find missing, which library of somebody
// else is in the process, or comes into it later, and where the recorder notes its calls.
const (
	envMissing  = "HFREDUCE_CUDA_TEST_MISSING"
	envOthers   = "HFREDUCE_CUDA_TEST_OTHERS"
	envLater    = "HFREDUCE_CUDA_TEST_LATER"
	envRecorder = "RECORDER_LOG"
)

// inner reports whether this is such a run, which has its own libraries.
func inner() bool {
	return os.Getenv(envMissing) != "" || os.Getenv(envOthers) != "" || os.Getenv(envLater) != "" || os.Getenv(envRecorder) != ""
}

// TestMain lets the tests find the fake, and fails the run if a test left something of CUDA's open.
func TestMain(m *testing.M) {
	if !inner() {
		err := fakecuda.Use()
		if os.Getenv("FAKECUDA_DEVICES") == "" {
			err = errors.Join(err, os.Setenv("FAKECUDA_DEVICES", "2"))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if left := Live(); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "cuda: not given back by the tests: %v\n", left)
		code = max(code, 1)
	}
	os.Exit(code)
}

// open returns device 0 of the fake or, where tests shall run on it, of the machine.
func open(t *testing.T) *Device {
	t.Helper()
	fakecuda.Need(t)
	if built != "" {
		testreq.Missing(t, "cuda", built)
	}
	d, err := Open(0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
