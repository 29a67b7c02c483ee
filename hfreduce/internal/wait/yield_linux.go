// SPDX-License-Identifier: Apache-2.0

package wait

import "golang.org/x/sys/unix"

// yieldOS lets other threads run on this core. It may be away for a scheduler slice, so the runtime is told (Syscall).
func yieldOS() { _, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
