// SPDX-License-Identifier: Apache-2.0

// Command hfreduce starts ranks, benchmarks collectives and tells about itself:
//
//	hfreduce launch -n 4 -- ./train          start 4 ranks on this machine
//	hfreduce bench -np 4 -b 8 -e 64M -f 2    benchmark allreduce as nccl-tests does
//	hfreduce bench reduce                    measure the reduction kernels of this machine
//	hfreduce bench link                      measure the links between nodes
//	hfreduce bench tune                      look for the settings that suit this machine
//	hfreduce version                         what this build can do
//
// Called by the name of an nccl-tests program, such as all_reduce_perf, it is that program.
//
// Results go to standard output, everything else to standard error. Exit codes: 0 all is well; 1 a result is wrong or too
// slow; 2 bad usage; 3 the job could not be run; 4 a rank was lost or time ran out; launch passes on the exit code of the
// first rank that failed.
package main

import (
	"os"
)

func main() {
	os.Exit(run(&system{args: os.Args, env: os.Environ(), stdout: os.Stdout, stderr: os.Stderr}))
}

// system is what the commands have of the outside.
type system struct {
	args           []string // as typed, with the program's name
	env            []string
	stdout, stderr *os.File
}
