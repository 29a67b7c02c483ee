// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process of this test binary that plays a role. The parent and it take turns: a line each.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err strings.Builder
}

func start(t *testing.T, role, name string, index, size int) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", fmt.Sprintf("%s=%s", roleVariable, role),
		fmt.Sprintf("%s=%s %d %d", memberVariable, name, index, size))
	c.cmd.Stderr = &c.err
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			c.kill()
		}
	})
	return c
}

// hear returns the child's next line, which must begin with want.
func (c *child) hear(t *testing.T, want string) string {
	t.Helper()
	line, err := c.out.ReadString('\n')
	rest, ok := strings.CutPrefix(line, want)
	if err != nil || !ok {
		c.kill()
		t.Fatalf("child said %q instead of %q: %v: %s", line, want, err, c.err.String())
	}
	return strings.TrimSpace(rest)
}

func (c *child) tell(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		t.Fatal(err)
	}
}

// end closes the child's input, which ends it, and returns how.
func (c *child) end(t *testing.T) {
	t.Helper()
	_ = c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("child: %v: %s", err, c.err.String())
	}
}

func (c *child) kill() {
	_ = c.cmd.Process.Signal(syscall.SIGKILL)
	_ = c.cmd.Wait()
}

func family(t *testing.T, role string, size int) (string, []*child) {
	t.Helper()
	name := config(size).Name
	var members []*child
	for i := range size {
		members = append(members, start(t, role, name, i, size))
	}
	return name, members
}

func TestProcessesShare(t *testing.T) {
	_, members := family(t, "share", 4)
	for _, c := range members {
		c.hear(t, "written")
	}
	for _, c := range members {
		c.tell(t, "check")
	}
	for _, c := range members {
		c.hear(t, "right")
	}
	for _, c := range members {
		c.end(t)
	}
}

// After SIGKILL of all members no process has the memory, no name of the socket and no file are left.
func TestProcessesKilled(t *testing.T) {
	name, members := family(t, "share", 4)
	inode := ""
	for _, c := range members {
		if inode = c.hear(t, "written"); inode == "" {
			t.Fatal("child did not tell the segment's inode")
		}
	}
	if holders := mapping(t, inode); len(holders) != 4 {
		t.Fatalf("processes %v map the segment before they are killed, want 4", holders)
	}
	for _, c := range members {
		c.kill()
	}
	checkNothingLeft(t, name, inode)
}

// The same in the middle of the join: member 0 waits for a member that never comes.
func TestProcessesKilledInJoin(t *testing.T) {
	name := config(1).Name
	members := []*child{start(t, "share", name, 0, 3), start(t, "share", name, 1, 3)}
	raw := approach(t, name)
	h := hello{index: 1, size: 3, base: childBytes, name: name}
	until(t, "member 1 came", func() bool { // then a second one is refused
		conn := approach(t, name)
		defer func() { _ = conn.Close() }()
		say(t, conn, h.encode())
		kind, _, err := newReader(conn, 1).next(maxRefusal)
		return err == nil && kind == kindRefusal
	})
	for _, c := range members {
		c.kill()
	}
	_ = raw.Close()
	checkNothingLeft(t, name, "")
}

// until polls a condition that nothing tells of.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func checkNothingLeft(t *testing.T, name, inode string) {
	t.Helper()
	until(t, "the socket's name is gone", func() bool {
		sockets, err := os.ReadFile("/proc/net/unix")
		if err != nil {
			t.Fatal(err)
		}
		return !strings.Contains(string(sockets), name)
	})
	if inode != "" {
		if holders := mapping(t, inode); len(holders) != 0 {
			t.Errorf("processes %v still map the segment", holders)
		}
	}
	files, err := filepath.Glob("/dev/shm/*hfreduce*")
	if err != nil || len(files) != 0 {
		t.Errorf("files in /dev/shm: %v, %v", files, err)
	}
}

// mapping returns the processes that map the memfd with this inode.
func mapping(t *testing.T, inode string) (holders []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/maps")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		maps, _ := os.ReadFile(f) // a process may have ended
		for line := range strings.Lines(string(maps)) {
			if fields := strings.Fields(line); len(fields) > 5 && fields[4] == inode && strings.HasPrefix(fields[5], "/memfd:hfreduce") {
				holders = append(holders, filepath.Base(filepath.Dir(f)))
				break
			}
		}
	}
	return holders
}

// The kernel refuses what a limit forbids; the error must name the limit, and what can work must work.
func TestProcessesUnderLimits(t *testing.T) {
	for _, role := range []string{"address space", "file size", "tiny file size", "open files"} {
		t.Run(role, func(t *testing.T) {
			c := start(t, role, config(1).Name, 0, 1)
			c.hear(t, "right")
			c.end(t)
		})
	}
	t.Run("open files of another member", func(t *testing.T) {
		c := start(t, "open files", config(2).Name, 1, 2) // there is no member 0 to wait for
		c.hear(t, "right")
		c.end(t)
	})
}

func inodeOf(s *Segment) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstat(s.fd, &st)
	return st.Ino, err
}
