// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// MemoryLock returns how many bytes of memory this process can pin, all registrations and mlock(2) together:
// RLIMIT_MEMLOCK. It is unlimited also with CAP_IPC_LOCK (root), unless that is only of a user namespace, where the
// kernel does not heed it. It works in every build.
func MemoryLock() (limit uint64, unlimited bool, err error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r); err != nil {
		return 0, false, fmt.Errorf("rdma: getrlimit(RLIMIT_MEMLOCK): %w", err)
	}
	if r.Cur == unix.RLIM_INFINITY {
		return r.Cur, true, nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return r.Cur, false, fmt.Errorf("rdma: capget: %w", err)
	}
	capable := data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
	return r.Cur, capable && initialUsers(), nil
}

// initialUsers reports whether this process is in the first user namespace: the one whose map is the identity on all
// 32-bit numbers. Where it cannot be read there are no namespaces.
func initialUsers() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err != nil || strings.Join(strings.Fields(string(b)), " ") == "0 0 4294967295"
}
