// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"fmt"

	"github.com/hfreduce/hfreduce/rdma"
)

// checkMemoryLock finds out before registration whether the process may pin so much memory; the kernel would only say
// "cannot allocate memory".
func checkMemoryLock(need uint64, limitOf func() (uint64, bool, error)) error {
	limit, unlimited, err := limitOf()
	if err != nil || unlimited || limit >= need {
		return nil // if it is not known, registering tells
	}
	return &MemoryLockError{Limit: limit, Need: need}
}

// MemoryLockError says that RLIMIT_MEMLOCK is too small for the memory that RDMA needs registered.
type MemoryLockError struct {
	Limit, Need uint64 // bytes; Need counts what this transport has registered already
}

// Error tells the limit, what is needed, and how to raise the limit where the process may have been started.
func (e *MemoryLockError) Error() string {
	return fmt.Sprintf("verbs: the limit of locked memory (RLIMIT_MEMLOCK) is %d KiB, RDMA needs %d KiB here. Raise it to unlimited: "+
		"shell: ulimit -l unlimited (and \"* - memlock unlimited\" in /etc/security/limits.conf for the next login); "+
		"Slurm: LimitMEMLOCK=infinity in slurmd's systemd unit and PropagateResourceLimitsExcept=MEMLOCK in slurm.conf; "+
		"systemd: LimitMEMLOCK=infinity in the unit; Docker: --ulimit memlock=-1; "+
		"Kubernetes: LimitMEMLOCK=infinity in the unit of the container runtime (containerd, crio), or the capability IPC_LOCK",
		e.Limit/1024, (e.Need+1023)/1024)
}

// Unwrap makes the error one of what this machine does not support.
func (e *MemoryLockError) Unwrap() error { return rdma.ErrNotSupported }
