// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func word(b []byte, i int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&b[8*i])) }

func TestJoinShares(t *testing.T) {
	for _, size := range []int{1, 2, 4, 7} {
		checkDescriptors(t)
		segments := joinAll(t, config(size))
		for i, s := range segments {
			if len(s.Base()) != 3*smallGrain {
				t.Fatalf("base of %d bytes", len(s.Base()))
			}
			word(s.Base(), i).Store(uint64(100 + i))
		}
		for i, s := range segments {
			for j := range segments {
				if v := word(s.Base(), j).Load(); v != uint64(100+j) {
					t.Errorf("%d members: member %d sees %d from member %d", size, i, v, j)
				}
			}
		}
	}
}

// Several communicators of a process form at the same time.
func TestJoinManyAtOnce(t *testing.T) {
	checkDescriptors(t)
	var waiting []<-chan joined
	for range 8 {
		c := config(3)
		for i := range 3 {
			waiting = append(waiting, join(testContext(t), c, i))
		}
	}
	for i, s := range collect(t, waiting) {
		word(s.Base(), 0).Add(1)
		if i%3 == 2 && word(s.Base(), 0).Load() != 3 {
			t.Errorf("segment %d was written by %d members", i/3, word(s.Base(), 0).Load())
		}
	}
}

func TestJoinRoundsUp(t *testing.T) {
	c := config(2)
	c.Bytes, c.ArenaBytes = 1, 1
	for _, s := range joinAll(t, c) {
		if len(s.Base()) < 1 || len(arena(t, s, 1)) != largeGrain {
			t.Errorf("base of %d, arena of %d bytes", len(s.Base()), len(arena(t, s, 1)))
		}
	}
}

func TestJoinPassesEventFDs(t *testing.T) {
	checkDescriptors(t)
	const size, without = 4, 2
	c, ctx := config(size), testContext(t)
	own := make([]int, size)
	var waiting []<-chan joined
	for i := range size {
		own[i] = -1
		if i != without {
			own[i] = newEventFD(t)
		}
		c.EventFD = own[i]
		waiting = append(waiting, join(ctx, c, i))
	}
	for i, s := range collect(t, waiting) {
		for j := range size {
			if j == without {
				if fd := s.EventFD(j); fd != -1 {
					t.Errorf("member %d: eventfd %d of a member that gave none", i, fd)
				}
				continue
			}
			var b [8]byte
			if _, err := unix.Write(s.EventFD(j), []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
				t.Errorf("member %d rings member %d: %v", i, j, err)
			}
			if n, err := unix.Read(own[j], b[:]); n != 8 || err != nil || s.EventFD(j) == own[j] {
				t.Errorf("member %d rang member %d by descriptor %d, not heard at %d: %v", i, j, s.EventFD(j), own[j], err)
			}
		}
	}
}

func TestJoinDescriptorsAndMappings(t *testing.T) {
	c := config(2)
	c.EventFD = newEventFD(t)
	for i, s := range joinAll(t, c) {
		mustAlloc(t, s, 1)
		for _, fd := range []int{s.fd, s.EventFD(0), s.EventFD(1)} {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("member %d: descriptor %d is inherited by programs that it starts (%v)", i, fd, err)
			}
		}
		for _, size := range []int64{0, 1 << 50} {
			if err := unix.Ftruncate(s.fd, size); !errors.Is(err, unix.EPERM) {
				t.Errorf("member %d: the size can be changed: %v", i, err)
			}
		}
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if n := checkFlags(t, string(smaps)); n != 4 {
		t.Errorf("%d mappings of segments in /proc/self/smaps, want 2 bases and 2 arenas", n)
	}
}

// checkFlags looks that no mapping of a segment is inherited by a fork (dc) or dumped (dd), and counts them.
func checkFlags(t *testing.T, smaps string) (count int) {
	t.Helper()
	ours := false
	for line := range strings.Lines(smaps) {
		flags, isFlags := strings.CutPrefix(line, "VmFlags:")
		switch {
		case strings.Contains(line, "memfd:hfreduce"):
			ours = true
		case isFlags && ours:
			ours = false
			count++
			if f := strings.Fields(flags); !slices.Contains(f, "dc") || !slices.Contains(f, "dd") {
				t.Errorf("a mapping of a segment has the flags %v", f)
			}
		}
	}
	return count
}

func TestJoinConfigFaults(t *testing.T) {
	for name, change := range map[string]func(c *Config){
		"no name":        func(c *Config) { c.Name = "" },
		"long name":      func(c *Config) { c.Name = strings.Repeat("x", maxName+1) },
		"no members":     func(c *Config) { c.Size = 0 },
		"many members":   func(c *Config) { c.Size = MaxMembers + 1 },
		"negative index": func(c *Config) { c.Index = -1 },
		"large index":    func(c *Config) { c.Index = c.Size },
		"no base":        func(c *Config) { c.Bytes = 0 },
		"huge base":      func(c *Config) { c.Bytes = 1 << 62 },
		"negative arena": func(c *Config) { c.ArenaBytes = -1 },
		"bad eventfd":    func(c *Config) { c.Size, c.EventFD = 1, 9999 },
		"huge arena":     func(c *Config) { c.ArenaBytes = 1 << 62 },
	} {
		c := config(2)
		change(&c)
		if s, err := Join(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), "hostmem: ") {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	c := config(MaxMembers)
	c.Name, c.ArenaBytes = strings.Repeat("x", maxName), 1<<56
	if _, err := Join(t.Context(), c); err == nil || !strings.Contains(err.Error(), "do not fit into a file") {
		t.Errorf("arenas that exceed any file: %v", err)
	}
}

func TestJoinLongestName(t *testing.T) {
	c := config(2)
	c.Name += strings.Repeat("x", maxName-len(c.Name))
	joinAll(t, c)
}

func TestJoinManyMembers(t *testing.T) {
	checkDescriptors(t)
	c := config(20)
	c.EventFD = newEventFD(t)
	segments := joinAll(t, c)
	word(segments[0].Base(), 0).Store(7)
	if v := word(segments[19].Base(), 0).Load(); v != 7 || segments[0].EventFD(19) < 0 {
		t.Errorf("the last member sees %d, its eventfd is %d", v, segments[0].EventFD(19))
	}
}

func TestJoinNameTaken(t *testing.T) {
	c := config(2)
	ctx, cancel := context.WithCancel(testContext(t))
	first := join(ctx, c, 0)
	approach(t, c.Name)
	_, err := Join(ctx, c)
	if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), fmt.Sprintf("process %d ", os.Getpid())) {
		t.Errorf("second member 0: %v", err)
	}
	cancel()
	if j := <-first; !errors.Is(j.err, context.Canceled) {
		t.Errorf("first member 0: %v", j.err)
	}
}
