// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// remedy tells what to do about an error of a system call, as the end of an error text; empty if nothing is known.
func remedy(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ETOOMANYREFS):
		return "; raise the limit on open files of this process (ulimit -n)"
	case errors.Is(err, unix.ENFILE):
		return "; raise the limit on open files of the system (sysctl fs.file-max)"
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "; the kernel, a seccomp profile or a security module forbids it: memfd_create and abstract unix sockets are needed"
	}
	return ""
}

// mapRemedy does the same for mmap, where ENOMEM has three causes.
func mapRemedy(err error) string {
	if !errors.Is(err, unix.ENOMEM) {
		return remedy(err)
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &limit) == nil && limit.Cur != unix.RLIM_INFINITY {
		return fmt.Sprintf("; RLIMIT_AS allows this process %d bytes of address space: raise it (ulimit -v)", limit.Cur)
	}
	return "; look at sysctl vm.overcommit_memory and vm.max_map_count"
}
