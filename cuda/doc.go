// SPDX-License-Identifier: Apache-2.0

// Package cuda binds the parts of CUDA that moving data needs: devices, memory, streams, events, and 32-bit words in host
// memory by which a stream and the host wait for each other. It runs no CUDA kernels and knows nothing of collectives.
//
// # Where it works
//
// The runtime (libcudart) and the driver (libcuda.so.1) are loaded when a function first needs them, so that one binary
// serves machines with and without; no SDK is needed to build. The runtime is the one that is in the process already,
// such as PyTorch's; else the one that HFREDUCE_CUDART names by its path; else the newest of 13, 12 and 11 that the loader
// or the usual folders have and the driver serves. HFREDUCE_LIBCUDA names another driver, for tests. Built without cgo, or
// run without the libraries, a driver or a device, or with a library that lacks a symbol, everything returns an error that
// wraps [ErrNotSupported] and says which of these it was. [Available] asks, and [InProcess] whether the program uses CUDA.
//
// # Handles
//
// [Ptr], [Stream] and [Event] are CUDA's own values as integers: those of others, such as PyTorch's streams, can be used
// as they are, and nothing is closed by the garbage collector. What was made must be given back; [Live] counts what was
// not, for tests. [Device] has the methods and makes itself the thread's current device for each call.
//
// An [Error] says which function failed, about what, and CUDA's name and text. The thread's last error is then taken away,
// so that nobody else takes it for his own.
//
// # Work for streams
//
// [Commands] is a list of copies, events and memory operations. [Device.Run] gives a list to CUDA in one call of C and
// without allocating: commands.go, then run.c. By a [Word] the host and a stream wait for each other without a call:
// Commands.Wait holds a stream until the host has stored a value, and Commands.Write tells the host that the stream is
// there. Devices where that does not work ([Properties].MemoryOperations) have a [Player] instead, which does it on the
// host.
//
// # Files
//
// The seam to C is raw_cgo.go with its twin raw_nocgo.go, and seam.h, which is all that Go sees of C: plain structures and
// integers. Behind it are library.c (loading, and the thread's device), calls.c (all calls but the hot ones) and run.c (the
// hot ones). abi.h is CUDA's binary interface; `make check-cuda-abi` holds it against CUDA's headers, where there are some.
package cuda
