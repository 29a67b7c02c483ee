// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Environment of a re-executed test binary: its role, and "name index size".
const (
	roleVariable   = "HFREDUCE_HOSTMEM_TEST_ROLE"
	memberVariable = "HFREDUCE_HOSTMEM_TEST_MEMBER"
)

const (
	childBytes = 2 * smallGrain
	childBlock = 3 << 20
)

// play is what a child process does.
func play(role string) error {
	c := Config{Bytes: childBytes, ArenaBytes: 1 << 38, EventFD: -1}
	if _, err := fmt.Sscan(os.Getenv(memberVariable), &c.Name, &c.Index, &c.Size); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	roles := map[string]func(context.Context, Config) error{
		"share": playShare, "address space": playAddressSpace, "file size": playFileSize,
		"tiny file size": playTinyFileSize, "open files": playOpenFiles,
	}
	return roles[role](ctx, c)
}

func pattern(member, i int) byte { return byte(member*31 + i%251 + 1) }

// playShare writes to its part of the base and to a block of its arena, and when told to, checks what the others wrote.
func playShare(ctx context.Context, c Config) error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return err
	}
	c.EventFD = fd
	s, err := Join(ctx, c)
	if err != nil {
		return err
	}
	b, err := s.Alloc(childBlock)
	if err != nil {
		return err
	}
	for i := range b.Bytes() {
		b.Bytes()[i] = pattern(c.Index, i)
	}
	word(s.Base(), c.Index).Store(uint64(b.Offset()) + 1)
	inode, err := inodeOf(s)
	if err != nil {
		return err
	}
	fmt.Println("written", inode)
	input := bufio.NewReader(os.Stdin)
	if _, err := input.ReadString('\n'); err != nil {
		return err
	}
	for i := range c.Size {
		if err := checkMember(s, i); err != nil {
			return fmt.Errorf("member %d sees of member %d: %w", c.Index, i, err)
		}
	}
	fmt.Println("right")
	_, err = io.Copy(io.Discard, input)
	return errors.Join(err, s.Close(), leakedMappings())
}

func checkMember(s *Segment, i int) error {
	offset := word(s.Base(), i).Load()
	if offset == 0 || s.EventFD(i) < 0 {
		return fmt.Errorf("offset %d, eventfd %d", offset, s.EventFD(i))
	}
	arena, err := s.Arena(i)
	if err != nil {
		return err
	}
	for k, v := range arena[offset-1:][:childBlock] {
		if v != pattern(i, k) {
			return fmt.Errorf("byte %d is %d, not %d", k, v, pattern(i, k))
		}
	}
	return nil
}

// expect tells the parent "right" if err says all that it must.
func expect(err error, want ...string) error {
	if err == nil {
		return fmt.Errorf("no error, want one with %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			return fmt.Errorf("the error %q does not say %q", err, w)
		}
	}
	return nil
}

func finish(errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := leakedMappings(); err != nil {
		return err
	}
	fmt.Println("right")
	return nil
}

func limit(resource int, value uint64) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(resource, &l); err != nil {
		return err
	}
	l.Cur = min(value, l.Max)
	return unix.Setrlimit(resource, &l)
}

// playAddressSpace may map the base but not an arena.
func playAddressSpace(ctx context.Context, c Config) error {
	var pages uint64
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(string(statm), &pages); err != nil {
		return err
	}
	if err := limit(unix.RLIMIT_AS, pages*uint64(os.Getpagesize())+1<<30); err != nil {
		return err
	}
	s, err := Join(ctx, c)
	if err != nil {
		return err
	}
	_, err = s.Alloc(1)
	return finish(expect(err, "mmap", "RLIMIT_AS", "ulimit -v"), s.Close())
}

// playFileSize gets arenas that fit into the limit.
func playFileSize(ctx context.Context, c Config) error {
	if err := limit(unix.RLIMIT_FSIZE, 64<<20); err != nil {
		return err
	}
	s, err := Join(ctx, c)
	if err != nil {
		return err
	}
	if _, err := s.Alloc(40 << 20); err != nil {
		return err
	}
	_, err = s.Alloc(40 << 20)
	return finish(expect(err, "no room", "file size limit", "ulimit -f"), s.Close())
}

func playTinyFileSize(ctx context.Context, c Config) error {
	if err := limit(unix.RLIMIT_FSIZE, childBytes-1); err != nil {
		return err
	}
	_, err := Join(ctx, c)
	return finish(expect(err, "file size limit", "ulimit -f"))
}

// playOpenFiles may open nothing more.
func playOpenFiles(ctx context.Context, c Config) error {
	spare, err := unix.Dup(0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Close(spare), limit(unix.RLIMIT_NOFILE, uint64(spare))); err != nil {
		return err
	}
	what := "memfd_create"
	if c.Index > 0 {
		what = "got no segment"
	}
	_, err = Join(ctx, c)
	return finish(expect(err, what, "ulimit -n"), limit(unix.RLIMIT_NOFILE, math.MaxUint64))
}
