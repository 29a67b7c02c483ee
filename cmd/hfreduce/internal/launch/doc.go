// SPDX-License-Identifier: Apache-2.0

// Package launch starts the ranks of a job as processes on this machine, with the environment that torchrun would give
// them, and stays with them until the last one has ended. Virtual nodes make ranks of one machine talk over the network.
//
// Each rank runs in a process group of its own and dies with the launcher, however that ends. Signals are passed on; the
// first rank that fails ends the others: SIGTERM to their groups, SIGKILL after a grace. Ranks have no standard input.
//
// Reading on: run.go (the life of a job), process.go (of a rank), env.go (what ranks are told), output.go.
package launch
