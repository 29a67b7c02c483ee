// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// patience bounds what a test waits for; nothing takes that long unless it is broken.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	code := m.Run()
	if err := errors.Join(goleak.Find(), leakedMappings()); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// leakedMappings compares the package's own count and the kernel's list with nothing.
func leakedMappings() error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	if n := LiveMappings(); n != 0 || strings.Contains(string(maps), "memfd:hfreduce") {
		return fmt.Errorf("%d mappings are counted as live; /proc/self/maps has %d of a segment", n, strings.Count(string(maps), "memfd:hfreduce"))
	}
	return nil
}

// checkDescriptors fails the test if it ends with more memfds, sockets, eventfds or pidfds open than it began with.
func checkDescriptors(t *testing.T) {
	t.Helper()
	pollNothing(t)
	before := descriptorKinds(t)
	t.Cleanup(func() {
		if after := descriptorKinds(t); after != before {
			t.Errorf("open descriptors before the test %+v, after it %+v", before, after)
		}
	})
}

// pollNothing makes the runtime open the descriptors of its network poller, which stay.
func pollNothing(t *testing.T) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = r.Close(), w.Close()
}

type kinds struct{ memfds, sockets, eventfds, pidfds int }

func descriptorKinds(t *testing.T) (k kinds) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch link, _ := os.Readlink("/proc/self/fd/" + e.Name()); { // one that is gone was the directory's
		case strings.HasPrefix(link, "/memfd:hfreduce"):
			k.memfds++
		case strings.HasPrefix(link, "socket:"):
			k.sockets++
		case link == "anon_inode:[eventfd]":
			k.eventfds++
		case strings.HasPrefix(link, "pidfd:"), link == "anon_inode:[pidfd]":
			k.pidfds++
		}
	}
	return k
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// config is member 0's; the others differ in Index.
func config(size int) Config {
	return Config{Name: "test-" + rand.Text(), Size: size, Bytes: 3 * smallGrain, ArenaBytes: 8 << 20, EventFD: -1}
}

type joined struct {
	segment *Segment
	err     error
}

// join starts a member in a goroutine of its own.
func join(ctx context.Context, c Config, index int) <-chan joined {
	c.Index = index
	done := make(chan joined, 1)
	go func() {
		s, err := Join(ctx, c)
		done <- joined{s, err}
	}()
	return done
}

// joinAll returns the segments of all members, as goroutines of this process; they end with the test.
func joinAll(t *testing.T, c Config) []*Segment {
	t.Helper()
	ctx := testContext(t)
	var waiting []<-chan joined
	for i := range c.Size {
		waiting = append(waiting, join(ctx, c, i))
	}
	return collect(t, waiting)
}

func collect(t *testing.T, waiting []<-chan joined) []*Segment {
	t.Helper()
	segments := make([]*Segment, len(waiting))
	for i, w := range waiting {
		j := <-w
		if j.err != nil {
			t.Errorf("member %d: %v", i, j.err)
			continue
		}
		segments[i] = j.segment
		t.Cleanup(func() {
			for range 2 { // idempotent
				if err := j.segment.Close(); err != nil {
					t.Errorf("close of member %d: %v", i, err)
				}
			}
		})
	}
	if t.Failed() {
		t.FailNow()
	}
	return segments
}

func mustAlloc(t *testing.T, s *Segment, bytes int64) Block {
	t.Helper()
	b, err := s.Alloc(bytes)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func arena(t *testing.T, s *Segment, i int) []byte {
	t.Helper()
	b, err := s.Arena(i)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newEventFD(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}
