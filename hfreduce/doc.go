// SPDX-License-Identifier: Apache-2.0

// Package hfreduce sums (or otherwise reduces) buffers over all ranks of a job: over shared memory inside a node and
// through a double binary tree between nodes, after HFReduce of "Fire-Flyer AI-HPC" (SC24).
//
// Every rank of the job calls [Init] once and gets a [Comm]; all ranks of a Comm then make the same collective calls in
// the same order:
//
//	comm, err := hfreduce.Init(ctx, hfreduce.Options{}) // rank, world size and meeting point from the launcher
//	...
//	err = comm.AllReduce(ctx, hfreduce.Host(grad), hfreduce.Host(grad), hfreduce.Sum) // in place
//
// # Errors
//
// A call with bad arguments returns an error that wraps [ErrInvalid] at once and changes nothing. Any later fault
// breaks the Comm for good: pending and later calls on every rank return an error that wraps the first cause
// ([ErrPeerLost], [ErrMismatch], [ErrTimeout], [ErrAborted], [ErrCorrupt]) and a [FaultError], which says on all ranks alike
// whom it is put down to and what they were last seen doing. [Comm.Shrink] goes on with the ranks that are left. When a call
// returns, with or without an error, the caller's buffers are no longer in use.
//
// # Sums
//
// fp16, bf16 and fp8 are summed in fp32 over all inputs of a node and rounded once, to nearest even; subnormal numbers are
// kept. NaN propagates through every operator. Nothing saturates: what is too large for fp8 e4m3 becomes NaN, for the other
// types infinity, as in PyTorch; NCCL's fp8 gives the largest number instead, which hides the overflow. Averages of fp16 and fp8 do
// not overflow, however large the sum is. The order in which an element is summed depends on the layout (which rank on which node) and on the size of the buffer, never on timing, chunk size or
// transport: two runs of one layout give the same bits, and all ranks end with the same bits; but which NaN one is, its sign and
// payload, follows the processor, so that it may differ between nodes whose processors are not alike.
//
// # Reading on
//
// The way of the data: collectives.go, internal/schedule/plan.go, internal/engine/step.go, internal/transport/transport.go.
package hfreduce
