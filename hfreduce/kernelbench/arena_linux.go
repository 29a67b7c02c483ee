// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const hugePageBytes = 2 << 20

// arena is the memory in which all buffers lie, of huge pages if the system has them.
type arena struct {
	mapped []byte
	bytes  []byte // from the first huge page on
}

// newArena maps memory, and touches it so that no page is missing later.
func newArena(bytes int64) (*arena, error) {
	if have := availableMemory(); bytes > have {
		return nil, fmt.Errorf("--size needs %d MiB of memory, and %d MiB are available; give smaller working sets", bytes>>20, have>>20)
	}
	bytes = (bytes + hugePageBytes - 1) / hugePageBytes * hugePageBytes
	mapped, err := unix.Mmap(-1, 0, int(bytes+hugePageBytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d MiB of memory: %w; give smaller working sets with --size", bytes>>20, err)
	}
	start := -uintptr(unsafe.Pointer(unsafe.SliceData(mapped))) % hugePageBytes
	a := &arena{mapped, mapped[start:][:bytes]}
	_ = unix.Madvise(a.bytes, unix.MADV_HUGEPAGE) // small pages will do where the kernel has no others; the report tells
	clear(a.bytes)
	return a, nil
}

// at returns a buffer.
func (a *arena) at(p place) []byte { return a.bytes[p.offset:p.end():p.end()] }

// all returns several buffers.
func (a *arena) all(places []place) [][]byte {
	buffers := make([][]byte, len(places))
	for i, p := range places {
		buffers[i] = a.at(p)
	}
	return buffers
}

// free gives the memory back.
func (a *arena) free() error {
	if err := unix.Munmap(a.mapped); err != nil {
		return fmt.Errorf("unmap the buffers: %w", err)
	}
	return nil
}

// availableMemory returns the bytes that the system can give, or so much that it does not matter where it does not tell.
func availableMemory() int64 {
	text, _ := os.ReadFile("/proc/meminfo")
	if kib, ok := kibibytes(string(text), "MemAvailable:"); ok {
		return kib << 10
	}
	return 1 << 50
}

// hugePages returns the bytes of this process's memory in huge pages, false if the system does not tell.
func hugePages() (int64, bool) {
	text, _ := os.ReadFile("/proc/self/smaps_rollup")
	kib, ok := kibibytes(string(text), "AnonHugePages:")
	return kib << 10, ok
}

// kibibytes reads a line such as "MemAvailable:   123 kB".
func kibibytes(text, name string) (int64, bool) {
	_, rest, found := strings.Cut(text, name)
	fields := strings.Fields(rest)
	if !found || len(fields) < 2 || fields[1] != "kB" {
		return 0, false
	}
	kib, err := strconv.ParseInt(fields[0], 10, 53)
	return kib, err == nil
}
