// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// seals fix the memfd's size, so that no member can make another one fault.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// newMemFD makes a sealed memfd of the given size.
func newMemFD(size int64) (fd int, err error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err = unix.MemfdCreate("hfreduce", flags|unix.MFD_NOEXEC_SEAL) // where sysctl vm.memfd_noexec is 2 nothing else goes
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("hfreduce", flags) // before Linux 6.3
	}
	if err != nil {
		return -1, fmt.Errorf("hostmem: memfd_create: %w%s", err, remedy(err))
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		return -1, errors.Join(fmt.Errorf("hostmem: ftruncate of the segment to %d bytes: %w; look at the file size limit (ulimit -f)", size, err), unix.Close(fd))
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return -1, errors.Join(fmt.Errorf("hostmem: fcntl(F_ADD_SEALS) of the segment: %w%s", err, remedy(err)), unix.Close(fd))
	}
	return fd, nil
}

// checkMemFD looks whether a descriptor that was handed over is a memfd of the right size that nobody can shrink.
func checkMemFD(fd int, base, arena int64, members int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("hostmem: fstat of the segment: %w", err)
	}
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("hostmem: fcntl(F_GET_SEALS): member 0 gave something that is no memfd: %w", err)
	}
	if want, ok := totalBytes(base, arena, members); !ok || st.Size != want || have&seals != seals {
		return fmt.Errorf("hostmem: member 0 gave a memfd of %d bytes with seals %#x, expected were %d and %#x", st.Size, have, want, seals)
	}
	return nil
}

// totalBytes returns the size of the whole segment, false if there is no such number.
func totalBytes(base, arena int64, members int) (int64, bool) {
	if base < 0 || arena < 0 || arena > (math.MaxInt64-base)/int64(members) {
		return 0, false
	}
	return base + arena*int64(members), true
}

// fitArena returns the size of an arena that the process's file size limit allows: more would end the process by
// SIGXFSZ.
func fitArena(base, arena int64, members int) (int64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return 0, fmt.Errorf("hostmem: getrlimit(RLIMIT_FSIZE): %w", err)
	}
	total, ok := totalBytes(base, arena, members)
	if !ok {
		return 0, fmt.Errorf("hostmem: %d arenas of %d bytes do not fit into a file", members, arena)
	}
	if limit.Cur == unix.RLIM_INFINITY || limit.Cur >= uint64(total) {
		return arena, nil
	}
	if limit.Cur < uint64(base) {
		return 0, fmt.Errorf("hostmem: the segment needs %d bytes, the file size limit (ulimit -f) is %d; raise it, or lower ChunkBytes or Slots", base, limit.Cur)
	}
	return (int64(limit.Cur) - base) / int64(members) / largeGrain * largeGrain, nil
}

// mapShared maps a part of the memfd. What is not populated takes no memory until it is touched.
func mapShared(fd int, off, length int64, populate bool) ([]byte, error) {
	flags := unix.MAP_SHARED | unix.MAP_NORESERVE
	if populate {
		flags = unix.MAP_SHARED | unix.MAP_POPULATE
	}
	b, err := unix.Mmap(fd, off, int(length), unix.PROT_READ|unix.PROT_WRITE, flags)
	return mapped(b, err, length)
}

// populate makes the pages of a mapping, as far as the kernel can: one before Linux 5.14 cannot, one without the memory
// does not, and then they come with the first write, as after a mapping that is to be populated.
func populate(b []byte) { _ = unix.Madvise(b, unix.MADV_POPULATE_WRITE) }

// mapPrivate maps memory for the members of one process.
func mapPrivate(length int64) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, int(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	return mapped(b, err, length)
}

// mapped finishes a mapping: it is not inherited by children, who must not write to it, and not part of core dumps.
func mapped(b []byte, err error, length int64) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("hostmem: mmap of %d bytes: %w%s", length, err, mapRemedy(err))
	}
	live.Add(1)
	for _, advice := range []int{unix.MADV_DONTFORK, unix.MADV_DONTDUMP} {
		if err := unix.Madvise(b, advice); err != nil {
			return nil, errors.Join(fmt.Errorf("hostmem: madvise(%d) of %d bytes: %w%s", advice, length, err, mapRemedy(err)), unmap(b))
		}
	}
	return b, nil
}

func unmap(b []byte) error {
	live.Add(-1)
	if err := unix.Munmap(b); err != nil {
		return fmt.Errorf("hostmem: munmap: %w", err)
	}
	return nil
}

// fileArenas are the arenas of members that are processes: parts of the memfd.
type fileArenas struct {
	fd          int
	index       int
	base, arena int64
	maps        [][]byte
}

func (f *fileArenas) bytes() int64        { return f.arena }
func (f *fileArenas) mapped(i int) []byte { return f.maps[i] }

func (f *fileArenas) get(i int) ([]byte, error) {
	if f.maps[i] == nil && f.arena > 0 {
		b, err := mapShared(f.fd, f.base+int64(i)*f.arena, f.arena, false)
		if err != nil {
			return nil, err
		}
		f.maps[i] = b
	}
	return f.maps[i], nil
}

func (f *fileArenas) punch(off, length int64) error {
	at := f.base + int64(f.index)*f.arena + off
	if err := unix.Fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, length); err != nil {
		return fmt.Errorf("hostmem: fallocate(PUNCH_HOLE): %w", err)
	}
	return nil
}

func (f *fileArenas) close() error {
	var errs []error
	for i, b := range f.maps {
		if b != nil {
			errs = append(errs, unmap(b))
			f.maps[i] = nil
		}
	}
	return errors.Join(errs...)
}
