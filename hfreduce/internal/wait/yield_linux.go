// SPDX-License-Identifier: Apache-2.0

package wait

import "golang.org/x/sys/unix"

// yieldOS lets other threads run on this core. The thread may be away for a scheduler slice, as any thread may at any time,
// but it never sleeps; so the runtime need not be told (RawSyscall), which would cost as much again.
func yieldOS() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
