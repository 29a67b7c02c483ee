// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// envStress makes the re-executed test binary the ringing process of TestBellStressTwoProcesses.
const envStress = "HFREDUCE_WAIT_TEST_STRESS"

func TestMain(m *testing.M) {
	if mode := os.Getenv(envStress); mode != "" {
		if err := stressChild(mode); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
