// SPDX-License-Identifier: Apache-2.0

// Package bench measures and verifies collectives the way nccl-tests 2.19.6 does: same flags, same sizes, same formulas,
// same table, same JSON, so that scripts that drive or parse nccl-tests work with it. Host memory is the device, unless
// Config.GPUs puts the buffers into GPU memory.
//
// [Run] takes this process's ranks and a [Config] and writes the report on rank 0. One measurement goes
//
//	fill buffers ─ one call ─ barrier ─ Iters timed calls ─ combine times ─ barrier ─ Check × (fill, one call, verify)
//
// first out of place, then in place, for each size of the sweep, each data type, each operator and each root.
//
// # Verification
//
// Input values are a pure function of (rank, index, seed), chosen for each data type and operator so that every partial
// result over any subset of the ranks is exactly representable in that type (pattern.go says how). The right answer
// therefore does not depend on the order of the reduction, on the layout or on a higher precision in between, and results
// are compared bit by bit; only averages of floating-point types may be off by 2 units in the last place. Values differ
// from rank to rank and from element to element, so that contributions dropped, doubled or swapped and blocks in the
// wrong place are found. Around every destination lie guard bytes, and sources are checked to be unchanged.
//
// # GPU memory
//
// Every buffer has an image in ordinary memory, which is filled and verified as host buffers are; copies through pinned
// memory bring it there and back (gpu.go). The timed calls are given to the rank's stream one after the other, and the stream
// is waited for once (measuregpu.go). Before all else the run measures what copies alone can reach (copylimits.go), and
// phases.go tells where the time of a call goes.
//
// # Reading on
//
// run.go (all ranks of a process), sweep.go (one rank through all tests), measure.go (one measurement), check.go and
// pattern.go (verification), report.go, table.go and document.go (output).
package bench
