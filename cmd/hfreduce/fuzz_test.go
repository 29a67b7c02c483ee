// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// FuzzCommandLine reads whatever arguments there may be, separated by spaces: a command comes out, or help, or an error of
// usage. Nothing is run.
func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{
		"bench -np4 --nodes 2 -b 8 -e 64M -f 2 -d half -o all", "bench allreduce reduce -r all -c 0 -I 1 -K 2", "bench reduce --size 64K --dtype float",
		"bench link --pairs all --mode both", "bench tune", "launch -n 4 -- true", "version", "bench -b", "bench -b 1e30 -g -1", "bench reduce_scatter_perf -J x.json",
		"--help", "bench --fault drop", "-all", "bench -np=", "bench --min-bw nan -T -1",
	} {
		f.Add(s)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { null.Close() })
	f.Fuzz(func(t *testing.T, line string) {
		defer func() {
			if r := recover(); r != nil && r != (helped{}) {
				panic(r)
			}
		}()
		s := &system{args: append([]string{programName}, strings.Fields(line)...), stdout: null, stderr: null}
		c, err := parseCommands(s)
		if err != nil {
			if e := new(exit); !errors.As(err, &e) || e.code != codeUsage {
				t.Errorf("%q: %v is no error of usage", line, err)
			}
			return
		}
		if strings.HasPrefix(c.selected.Command(), "bench collectives") {
			if cfg, err := c.Bench.Collectives.config(s); err == nil && cfg.Validate() != nil {
				t.Errorf("%q was accepted, but it is not valid: %v", line, cfg.Validate())
			}
		}
	})
}
