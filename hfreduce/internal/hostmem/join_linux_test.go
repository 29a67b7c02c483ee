// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// memberVariable makes the test binary join a segment as a process: "name index size".
const memberVariable = "HFREDUCE_TEST_MEMBER"

func TestMain(m *testing.M) {
	if v := os.Getenv(memberVariable); v != "" {
		if err := playMember(v); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if n := LiveMappings(); n != 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d mappings are left\n", n)
		code = 1
	}
	os.Exit(code)
}

const testArena = 1 << 30

// playMember joins, adds to a shared counter, reads what member 0 allocated, and then waits to be killed.
func playMember(v string) error {
	fields := strings.Fields(v)
	index, errIndex := strconv.Atoi(fields[1])
	size, errSize := strconv.Atoi(fields[2])
	if err := errors.Join(errIndex, errSize); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := Join(ctx, Config{Name: fields[0], Index: index, Size: size, Bytes: 8192, ArenaBytes: testArena, EventFD: -1})
	if err != nil {
		return err
	}
	atomic.AddUint32(word(s, 0), 1)
	for atomic.LoadUint32(word(s, 64)) == 0 { // member 0 has allocated
		time.Sleep(time.Millisecond)
	}
	arena, err := s.Arena(0)
	if err != nil {
		return err
	}
	atomic.AddUint32(word(s, 128), uint32(arena[atomic.LoadUint32(word(s, 64))]))
	<-ctx.Done()
	return errors.New("was not killed")
}

func word(s *Segment, at int) *uint32 { return (*uint32)(unsafe.Pointer(&s.Base()[at])) }

func deadline(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// until polls: other processes tell nothing but through memory.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestProcessesShareAndLeaveNothing joins with three other processes, shares a base and an arena, and kills them.
func TestProcessesShareAndLeaveNothing(t *testing.T) {
	name, others := rand.Text(), 3
	var children []*exec.Cmd
	for i := 1; i <= others; i++ {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d", memberVariable, name, i, others+1))
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		children = append(children, c)
	}
	s, err := Join(deadline(t, 30*time.Second), Config{Name: name, Size: others + 1, Bytes: 8192, ArenaBytes: testArena, EventFD: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	until(t, "members count themselves", func() bool { return atomic.LoadUint32(word(s, 0)) == uint32(others) })
	if _, err := s.Alloc(5000); err != nil {
		t.Fatal(err)
	}
	b, err := s.Alloc(5000)
	if err != nil {
		t.Fatal(err)
	}
	b.Bytes()[0] = 7
	atomic.StoreUint32(word(s, 64), uint32(b.Offset()))
	until(t, "members read the arena", func() bool { return atomic.LoadUint32(word(s, 128)) == uint32(7*others) })
	for _, c := range children {
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait()
	}
	if sockets, err := os.ReadFile("/proc/net/unix"); err != nil || strings.Contains(string(sockets), name) {
		t.Errorf("the socket is left (%v)", err)
	}
	b.Bytes()[1] = 8 // the memory lives on with its last member
}

// joinAll joins members as goroutines of this process.
func joinAll(t *testing.T, size int, change func(c *Config)) ([]*Segment, []error) {
	segments, errs := make([]*Segment, size), make([]error, size)
	name := rand.Text()
	ctx := deadline(t, 20*time.Second)
	var wg sync.WaitGroup
	for i := range size {
		c := Config{Name: name, Index: i, Size: size, Bytes: 4096, ArenaBytes: testArena, EventFD: -1}
		if change != nil {
			change(&c)
		}
		wg.Go(func() {
			if segments[i], errs[i] = Join(ctx, c); errs[i] == nil {
				t.Cleanup(func() { segments[i].Close() })
			}
		})
	}
	wg.Wait()
	return segments, errs
}

func TestEventFDsReachEverybody(t *testing.T) {
	const size = 5
	fds := make([]int, size)
	for i := range fds {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	fds[2] = -1
	segments, errs := joinAll(t, size, func(c *Config) { c.EventFD = fds[c.Index] })
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for i, s := range segments {
		for j := range size {
			if (s.EventFD(j) < 0) != (j == 2) {
				t.Fatalf("member %d has %d as eventfd of member %d", i, s.EventFD(j), j)
			}
			if j == 2 {
				continue
			}
			one := [8]byte{1}
			if _, err := unix.Write(s.EventFD(j), one[:]); err != nil {
				t.Fatal(err)
			}
		}
	}
	for j, fd := range fds {
		var count [8]byte
		if fd < 0 {
			continue
		}
		if _, err := unix.Read(fd, count[:]); err != nil || count[0] != size {
			t.Errorf("eventfd %d was written %d times, want %d (%v)", j, count[0], size, err)
		}
	}
}

// TestStrangersDoNotDisturb has a crowd at the door: silent, garbage, half a hello, the wrong name, the wrong size, a
// member that is there already.
func TestStrangersDoNotDisturb(t *testing.T) {
	name := rand.Text()
	ctx := deadline(t, 20*time.Second)
	done := make(chan error, 1)
	var first *Segment
	go func() {
		s, err := Join(ctx, Config{Name: name, Size: 3, Bytes: 4096, EventFD: -1})
		first = s
		done <- err
	}()
	good := hello{index: 1, size: 3, base: 4096, name: name}
	wrong := func(change func(h *hello)) []byte { h := good; change(&h); return h.encode() }
	for what, bytes := range map[string][]byte{
		"silent":  nil,
		"garbage": []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n and then some more of it"),
		"half":    good.encode()[:10],
		"name":    wrong(func(h *hello) { h.name = "someone else" }),
		"size":    wrong(func(h *hello) { h.size = 4 }),
		"index":   wrong(func(h *hello) { h.index = 3 }),
		"zero":    wrong(func(h *hello) { h.index = 0 }),
		"base":    wrong(func(h *hello) { h.base = 1 << 40 }),
		"version": append([]byte("HFRM\x09"), good.encode()[5:]...),
		"no fd":   wrong(func(h *hello) { h.eventFD = true }),
	} {
		var conn net.Conn
		until(t, "the door is open", func() (ok bool) {
			c, err := net.Dial("unix", address(name).Name)
			conn = c
			return err == nil
		})
		defer conn.Close()
		if _, err := conn.Write(bytes); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for _, index := range []int{1, 2} {
		go func() {
			s, err := Join(ctx, Config{Name: name, Index: index, Size: 3, Bytes: 4096, EventFD: -1})
			if err == nil {
				err = s.Close()
			}
			done <- err
		}()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSecondMemberOfOneIndexIsRefused(t *testing.T) {
	name := rand.Text()
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 3)
	for _, index := range []int{0, 1, 1} {
		go func() {
			_, err := Join(ctx, Config{Name: name, Index: index, Size: 3, Bytes: 4096, EventFD: -1})
			errs <- err
		}()
	}
	if err := <-errs; err == nil || !strings.Contains(err.Error(), "there are two members 1") {
		t.Errorf("first error: %v, want the second member 1 to be refused", err)
	}
	cancel()
	for range 2 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("after cancel: %v", err)
		}
	}
}

func TestJoinNamesWhoIsMissing(t *testing.T) {
	ctx := deadline(t, 50*time.Millisecond)
	_, err := Join(ctx, Config{Name: rand.Text(), Size: 4, Bytes: 4096, EventFD: -1})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "members 1, 2, 3 of 4") {
		t.Errorf("member 0: %v", err)
	}
	_, err = Join(ctx, Config{Name: rand.Text(), Index: 1, Size: 4, Bytes: 4096, EventFD: -1})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "member 0") {
		t.Errorf("member 1: %v", err)
	}
}

func TestUnequalSizesAreRefused(t *testing.T) {
	name := rand.Text()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := Join(ctx, Config{Name: name, Size: 2, Bytes: 4096, EventFD: -1})
		done <- err
	}()
	_, err := Join(ctx, Config{Name: name, Index: 1, Size: 2, Bytes: 8192, EventFD: -1})
	if err == nil || !strings.Contains(err.Error(), "options differ") {
		t.Errorf("member 1: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("member 0: %v", err)
	}
}

func TestConfigFaults(t *testing.T) {
	good := Config{Name: "x", Size: 1, Bytes: 1, EventFD: -1}
	for want, change := range map[string]func(c *Config){
		"name of 0 bytes":           func(c *Config) { c.Name = "" },
		"name of 200 bytes":         func(c *Config) { c.Name = strings.Repeat("n", 200) },
		"0 members":                 func(c *Config) { c.Size = 0 },
		"251 members":               func(c *Config) { c.Size = 251 },
		"member 1 is not within":    func(c *Config) { c.Index = 1 },
		"segment of 0 bytes":        func(c *Config) { c.Bytes = 0 },
		"arenas of -1 bytes":        func(c *Config) { c.ArenaBytes = -1 },
		"duplicate the eventfd 999": func(c *Config) { c.EventFD = 999 },
	} {
		c := good
		change(&c)
		if _, err := Join(context.Background(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestFreeReturnsMemory looks at the blocks that the memfd holds.
func TestFreeReturnsMemory(t *testing.T) {
	segments, errs := joinAll(t, 1, nil)
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
	s := segments[0]
	held := func() int64 {
		var st unix.Stat_t
		if err := unix.Fstat(s.fd, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	before := held()
	b, err := s.Alloc(10 << 20)
	if err != nil {
		t.Fatal(err)
	}
	if held() != before {
		t.Errorf("memory was taken before it was touched")
	}
	for i := 0; i < len(b.Bytes()); i += 4096 {
		b.Bytes()[i] = 1
	}
	if got := held() - before; got < 10<<20 {
		t.Errorf("%d bytes held after touching 10 MiB", got)
	}
	if err := s.Free(b); err != nil {
		t.Fatal(err)
	}
	if got := held(); got != before {
		t.Errorf("%d bytes held after Free, before %d", got, before)
	}
	if again, err := s.Alloc(10 << 20); err != nil || again.Bytes()[0] != 0 {
		t.Errorf("memory is not zero when it comes back (%v)", err)
	}
}
