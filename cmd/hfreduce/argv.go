// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"slices"
	"strings"
)

// rewrite turns a command line, program name first, into what the parser takes:
//   - the name of an nccl-tests program, such as all_reduce_perf, becomes "bench" and the name;
//   - mpirun's -np, -np4 and -np=4, which look like -n with a value, become --np;
//   - bench's -all becomes "all".
//
// What follows "--" is not touched.
func rewrite(argv []string) []string {
	var out []string
	if name := filepath.Base(argv[0]); strings.HasSuffix(name, "_perf") && !slices.Equal(argv[1:min(2, len(argv))], []string{"bench"}) {
		out = append(out, "bench", name)
	}
	for i, a := range argv[1:] {
		if a == "--" {
			return append(out, argv[1+i:]...)
		}
		out = append(out, rewriteFlag(a))
	}
	return out
}

func rewriteFlag(a string) string {
	if a == "-all" || a == "--all" {
		return "all"
	}
	rest, found := strings.CutPrefix(a, "-np")
	switch {
	case !found:
		return a
	case rest == "":
		return "--np"
	}
	return "--np=" + strings.TrimPrefix(rest, "=")
}
