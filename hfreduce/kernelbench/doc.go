// SPDX-License-Identifier: Apache-2.0

// Package kernelbench measures how fast this machine's CPU reduces buffers, against how fast it copies memory. It measures
// the arithmetic of the library and nothing else: one process, one core, no ranks, no network.
//
// # What is measured
//
// A case is a working set, a data type, an operator, a number of sources, a backend (the portable kernels or those of an
// instruction set), plain or non-temporal stores, and the kind of output. Its figure is the traffic in GB/s (10^9 bytes):
// every source is read once and every output written once, each at its own width, divided by the time. The working set is
// the bytes of all buffers of a case together; each has an equal number of elements, in whole pages.
//
// The limit is a copy of half the working set to the other half, whose traffic is counted alike, one read and one write. A
// reduction cannot be expected to move more bytes than that, so a ratio near 1 says that arithmetic costs nothing; with many
// sources it can exceed 1, because reading is cheaper than writing. The copy is libc's memcpy in programs built with cgo, and
// Go's copy in all others (CGO_ENABLED=0); the report says which. On x86-64 Go's copy takes non-temporal stores from 1 MiB
// on, so that the two differ; with cgo both are shown.
//
// # How
//
// Interleaved, median: in each round every case is measured once, in an order that is shuffled anew, and the copy before and
// after each. A case's ratio is the median over the rounds of its figure by the mean of the two copies next to it, so that
// what changes the machine's speed for longer than a moment (clocks, neighbours on a shared host) drops out. A sample is as
// many calls as fill a millisecond, or one call if that takes longer, after one that is not timed where the caches may keep
// something of it. The spread is half the distance between the quartiles, relative to the median.
//
// All buffers lie in one arena of huge pages (if the system has them), touched before. Each starts 3 cache lines further
// into a page than the one before, since addresses that are equal modulo 4 KiB get into each other's way. Sources hold
// random numbers of ordinary magnitude: no NaN, no infinity, nothing subnormal, and nothing that becomes so. The thread is
// pinned to one processor, and the garbage collector waits until the end.
//
// Before a case is measured its result is compared with that of the portable kernels, bit by bit: a wrong kernel has no
// speed.
//
// # Reading on
//
// run.go (from the configuration to the report), case.go and layout.go (what is measured, and where it lies), measure.go and
// rounds.go (timing), verify.go, report.go, table.go and document.go (output).
package kernelbench
