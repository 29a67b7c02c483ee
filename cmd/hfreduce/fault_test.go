// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// TestBenchFault: the benchmark shows what injected faults do.
func TestBenchFault(t *testing.T) {
	for _, c := range []struct {
		fault, stdout, stderr string
		code                  int
		env                   []string
	}{
		{"delay=100us p=0.1", "# Out of bounds values : 0 OK", `msg="faults are injected" rank=1 plan="seed=1; delay=100`, 0, nil},
		{"corrupt rank=0", "FAILED", "corrupt=1 rank=0", codeFailed, nil},
		{"corrupt rank=0 p=1", "corrupt data: ", "corrupt=1 rank=0", codeFailed, []string{"HFREDUCE_CHECKSUM=1"}},
		{"abort rank=1 call=9", "an injected fault", "abort rank=1 call=9", codeLost, nil},
		{"drop rank=7", "", "rank 7 does not exist, the ranks are 0 to 1", codeUsage, nil},
		{"explode", "", `there is no action "explode"`, codeUsage, nil},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := execute(t, c.env, "bench", "-np", "2", "--nodes", "2", "-b", "8", "-e", "64K", "-f", "8", "-n", "3", "--fault", c.fault)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit code %d, want %d, with %q and %q:\n%s\n%s", code, c.code, c.stdout, c.stderr, stdout, stderr)
			}
		})
	}
}
