// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// heirVariable holds the rank that leaves a child with all its descriptors.
const heirVariable = "HFREDUCE_TEST_HEIR"

// roleHeir sums for ever, as roleSpin does. One rank first forks a child that inherits its sockets, as a trainer's workers
// that load data do, and says which.
func roleHeir(ctx context.Context, c *Comm) error {
	if err := roleSum(ctx, c); err != nil { // all links are there
		return err
	}
	if os.Getenv(heirVariable) == strconv.Itoa(c.Rank()) {
		pid, err := leaveHeir()
		if err != nil {
			return err
		}
		fmt.Println("heir", pid)
	}
	return roleSpin(ctx, c)
}

// leaveHeir starts a process that has every descriptor of this one but its input and output, and does nothing.
func leaveHeir() (pid int, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0) // fails for the directory's own, which is closed
		}
	}
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	return syscall.ForkExec(exe, []string{exe}, &syscall.ProcAttr{
		Env: []string{roleVariable + "=" + roleIdle}, Files: []uintptr{null.Fd(), null.Fd(), null.Fd()},
	})
}

// roleIdle is a process that is no rank, and is to be killed; it does not outlive a test that forgets it for long.
const roleIdle = "none"

func idle() { time.Sleep(2 * time.Minute) }

// TestKilledRankWithHeirs kills a rank whose child keeps all its connections open. Nobody may take it for alive.
func TestKilledRankWithHeirs(t *testing.T) {
	for _, tt := range []struct {
		name   string
		nodeOf []int
		victim int
	}{
		{"one node", blocks(3, 1), 2}, {"one node, rank 0", blocks(3, 1), 0}, {"two nodes", blocks(4, 2), 1}, {"two nodes, the other", blocks(4, 2), 2},
		{"two nodes, rank 0", blocks(4, 2), 0}, {"rank 0, and rank 1 does not see it", []int{0, 1, 0, 1}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			children := spawnWith(t, "heir", tt.nodeOf, func(int) []string { return []string{fmt.Sprintf("%s=%d", heirVariable, tt.victim)} })
			v := children[tt.victim]
			if !v.lines.Scan() {
				t.Fatalf("no heir: %s", v.out.String())
			}
			heir, err := strconv.Atoi(strings.TrimPrefix(v.lines.Text(), "heir "))
			if err != nil {
				t.Fatalf("%q: %v", v.lines.Text(), err)
			}
			t.Cleanup(func() { _ = syscall.Kill(heir, syscall.SIGKILL) })
			if n := sockets(t, heir); n < 2 {
				t.Fatalf("the heir has %d sockets", n)
			}
			began := time.Now()
			killOne(t, children, tt.victim)
			took := time.Since(began)
			if t.Logf("all had their errors after %v", took); took > 5*time.Second {
				t.Errorf("the errors took %v", took)
			}
			if n := sockets(t, heir); n < 2 {
				t.Errorf("at the end the heir has %d sockets", n)
			}
		})
	}
}

// sockets counts a process's open sockets.
func sockets(t *testing.T, pid int) (n int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, _ := os.Readlink(dir + e.Name()); strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
