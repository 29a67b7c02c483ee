// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// TestBenchSoak soaks ranks that are processes, without faults and with.
func TestBenchSoak(t *testing.T) {
	for _, c := range []struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		{"-np 4 --nodes 2 --duration 1s --seed 5", 0, "# hfreduce soak: seed 5, 4 ranks on 2 nodes, buffers of up to 4194304 bytes, for 1s; --seed 5 repeats it\n", ""},
		{"-np 3 --duration 500ms -e 64K", 0, "3 of 3 ranks were left", ""},
		{"-np 2 -t 2 --nodes 2 --duration 500ms -e 64K", 0, "4 of 4 ranks were left", ""},
		{"-np 4 --nodes 2 --duration 1s --fault explode", codeUsage, "", `there is no action "explode"`},
		{"-np 4 --nodes 2 --duration 2s -e 64K --seed 1 --fault kill;rank=1;call=5", 0, "# 3 of 4 ranks were left after ", "was ended by signal 9 (killed); the others go on"},
		{"-np 4 --nodes 2 --duration 10s -e 64K --seed 1 --fault corrupt;rank=0;times=1", codeFailed, "wrong results: 1, amiss: 0 FAILED\n", "hfreduce bench soak: rank "},
		{"-np 2 --duration 0s", codeUsage, "", "--duration 0s is not positive"},
		{"-np 2 --timeout -1s", codeUsage, "", "--timeout -1s is not positive"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			args := []string{"bench", "soak"}
			before, rules, found := strings.Cut(c.args, "--fault ")
			args = append(args, strings.Fields(before)...)
			if found {
				args = append(args, "--fault", strings.ReplaceAll(rules, ";", " "))
			}
			code, stdout, stderr := execute(t, nil, args...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
				t.Errorf("exit code %d, want %d, with %q and %q:\n%s\n%s", code, c.code, c.stdout, c.stderr, stdout, stderr)
			}
		})
	}
	env := []string{"RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=1"}
	if code, _, stderr := execute(t, env, "bench", "soak"); code != codeUsage || !strings.Contains(stderr, "all ranks need the same --seed") {
		t.Errorf("under another launcher without a seed: exit code %d, %s", code, stderr)
	}
}
