// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
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

// withDefault names the default subcommand of a command that is not followed by one of its subcommands. The parser would
// find it too, but it also takes "reduce" in "bench -b 8 reduce" for the subcommand, where it is a collective.
func withDefault(program *kong.Node, args []string) []string {
	command := child(program, args)
	if command == nil || command.DefaultCmd == nil || child(command, args[1:]) != nil {
		return args
	}
	return slices.Insert(slices.Clone(args), 1, command.DefaultCmd.Name)
}

// child returns the command that the first argument names, nil if it names none.
func child(of *kong.Node, args []string) *kong.Node {
	for _, c := range of.Children {
		if len(args) > 0 && c.Type == kong.CommandNode && c.Name == args[0] {
			return c
		}
	}
	return nil
}
