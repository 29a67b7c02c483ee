// SPDX-License-Identifier: Apache-2.0

// Package rdma binds libibverbs, rdma-core's library of RDMA verbs: reliably connected queue pairs that write into the
// memory of a peer, over InfiniBand or Ethernet (RoCE). It knows nothing of collectives.
//
// # Where it works
//
// libibverbs.so.1 is loaded when a function first needs it, so that one binary serves machines with and without it.
// Built without cgo, or without rdma-core's header infiniband/verbs.h, or run without the library, or with one that
// lacks a symbol, everything returns an error that wraps [ErrNotSupported] and says which of these it was.
// [Available] asks.
//
// # Objects
//
// A [Device] is an opened device. It makes protection domains ([PD]), completion channels ([Channel]) and completion
// queues ([CQ]); a protection domain registers memory ([MR]) and makes queue pairs ([QP]).
//
//	Device ── PD ── MR
//	   │       └─── QP ── its CQs
//	   └── CQ ── Channel
//
// Each is closed by Close, in any order and as often as one likes: what others are made of, or a call is using, is given
// back when the last of those is done with it. Methods of a closed object return [ErrClosed]. Nothing is closed by the
// garbage collector, because a device may still write to the memory; [Live] counts what is open, for tests.
//
// All methods are safe for concurrent use.
//
// # Memory
//
// Memory that a device reads or writes must not be Go's heap or stacks, which the runtime moves and reuses: map it
// (mmap), and unmap it after its MR is closed. Addresses go to C as integers; Go's memory is never seen by a device.
//
// # Data path
//
// [QP.Step] posts a list of sends, replenishes the receives and polls for completions, in one call of C and without
// allocating: qp.go, then step.go, then step.c. Calls of libibverbs do not block, except for those that make, change
// and close objects, which enter the kernel; registering memory takes time in proportion to its size.
//
// # Files
//
// The seam to C is raw_cgo.go with its twin raw_nocgo.go, and seam.h, which is all that Go sees of C: own plain
// structures and integers, the same with and without rdma-core's header. Behind it are library.c (loading),
// objects.c (all calls but the hot ones), step.c (the hot ones) and missing.c (no header).
package rdma
