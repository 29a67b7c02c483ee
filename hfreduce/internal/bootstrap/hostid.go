// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"crypto/rand"
	"encoding/binary"
	"os"
	"strings"

	"github.com/hfreduce/hfreduce/internal/cpus"
)

// HostID tells which host, and which network namespace on it, this process runs in: the kernel's boot id and the
// namespace's inode. Ranks with equal HostID reach each other by loopback and abstract unix sockets. Where /proc does
// not tell, the host name must do.
func HostID() string {
	if namespace, err := os.Readlink("/proc/self/ns/net"); err == nil {
		return machine() + "/" + namespace
	}
	return hostName()
}

// machine names the running kernel.
func machine() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return hostName()
	}
	return strings.TrimSpace(string(boot))
}

// process tells this process from all others. Set once: process ids of containers are not their own.
var process = func() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return binary.NativeEndian.Uint64(b[:])
}()

// seat returns the seat of this process's ranks.
func seat() Seat {
	allowed, err := cpus.Allowed()
	if err != nil { // then it shares with everybody on the machine
		allowed = ""
	}
	return Seat{Machine: machine(), Process: process, CPUs: allowed}
}

// hostName is for the reader of messages only.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "unknown-host"
	}
	return name
}
