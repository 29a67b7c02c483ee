// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"os"
	"strings"
)

// HostID tells which host, and which network namespace on it, this process runs in: the kernel's boot id and the
// namespace's inode. Ranks with equal HostID reach each other by loopback and abstract unix sockets. Where /proc does
// not tell, the host name must do.
func HostID() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err == nil {
		if namespace, err := os.Readlink("/proc/self/ns/net"); err == nil {
			return strings.TrimSpace(string(boot)) + "/" + namespace
		}
	}
	return hostName()
}

// hostName is for the reader of messages only.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "unknown-host"
	}
	return name
}
