// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"runtime/debug"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
	"github.com/hfreduce/hfreduce/rdma"
)

const modulePath = "github.com/hfreduce/hfreduce"

// Version returns the module's version as the Go build recorded it, "(devel)" when it did not.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(devel)"
	}
	if info.Main.Path == modulePath && info.Main.Version != "" {
		return info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path == modulePath {
			return m.Version
		}
	}
	return "(devel)"
}

// kernelName returns which reduction kernels run.
func kernelName() string {
	backend, _ := kernel.Selected() // Options.validate returns the error
	return backend.String()
}

// Features lists what this build can do on this machine, one feature a line: "kernel avx512", "transport tcp", and of
// RDMA and CUDA what there is or what is missing: "rdma libibverbs.so.1 loaded, 2 devices", "cuda built without cgo".
func Features() []string {
	return []string{"kernel " + kernelName(), "transport shm", "transport tcp", "rdma " + rdma.Library(), "cuda " + cuda.Library()}
}
