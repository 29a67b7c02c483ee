// SPDX-License-Identifier: Apache-2.0

// Package nvml lists the GPUs of this machine as NVIDIA's management library tells them: addresses on the PCI bus, NVLink
// peers, and how fast their slots are. It is for programs that report on a machine; nothing that moves data needs it.
//
// # The build tag
//
// Only a program that is built with cgo and -tags nvml has it; in others GPUs returns an error that says so. The reason is
// how github.com/NVIDIA/go-nvml (looked at: v0.13.4-1) is linked: the library's functions stay undefined in the program
// (-Wl,--unresolved-symbols=ignore-in-object-files), for the loader to bind at the first call of each, when the library has
// been opened. So with the tag, whether NVIDIA's library is there or not,
//
//   - with LD_BIND_NOW=1 the program does not start: "symbol lookup error: undefined symbol: nvmlGpuInstance...", exit
//     code 127, before main; the same when it was linked with -z now, as distributions harden programs;
//   - a shared library (-buildmode=c-shared) cannot be loaded by dlopen with RTLD_NOW, which Python's ctypes uses;
//   - a static PIE dies of SIGSEGV at its start; a static program does so at the first call into the library;
//   - the call of a function that the library lacks ends the process with code 127, even one that only words an error.
//
// PIE as such, -race and plain dynamic programs start. GPUs looks for every function before it calls it, so with the tag
// there remain the first three: do not build libraries or static or hardened programs with it.
package nvml

import (
	"errors"
	"fmt"
)

// GPU is what NVML tells about a GPU.
type GPU struct {
	Index          int      // NVML's number, which CUDA_VISIBLE_DEVICES does not change
	Name           string   // of the model
	UUID           string   // "GPU-..."
	PCIAddress     string   // as in sysfs: "0000:65:00.0"
	NVLinks        []string // PCI addresses of what its active NVLinks lead to, each once: GPUs, or switches where there are NVSwitches
	PCIeGeneration int      // the best that GPU and slot can do together, 0 if it is not known; an idle GPU may run a lower one
	PCIeWidth      int      // lanes, likewise
}

// GPUs lists the GPUs in the order of their index; there may be none. Those that this process may not use, such as other
// jobs' in a container or under Slurm, are left out. It returns an error that is errors.ErrUnsupported and says what is
// missing in a program that was built without NVML, and where the library libnvidia-ml.so.1, one of its functions or the
// driver is not there. Other errors are NVML's own: a GPU is lost, library and driver do not fit.
func GPUs() ([]GPU, error) { return list("libnvidia-ml.so.1") }

// unsupported returns an error of GPUs that says what is missing.
func unsupported(format string, a ...any) error {
	return fmt.Errorf("nvml: %s: %w", fmt.Sprintf(format, a...), errors.ErrUnsupported)
}
