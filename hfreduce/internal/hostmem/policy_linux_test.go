// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// needPolicies returns a node of which this process may have memory.
func needPolicies(t *testing.T) int {
	t.Helper()
	nodes, err := AllowedNodes()
	if errors.Is(err, errors.ErrUnsupported) {
		testreq.Missing(t, "numa", err.Error())
	}
	if err != nil || len(nodes) == 0 {
		t.Fatalf("allowed nodes are %v, %v", nodes, err)
	}
	return nodes[0]
}

// policyAt returns the policy of the memory at p and whether it has pages, as the kernel tells them.
func policyAt(t *testing.T, p *byte) (policy string, pages bool) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/numa_maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if at, err := strconv.ParseUint(fields[0], 16, 64); err == nil && uintptr(at) == uintptr(unsafe.Pointer(p)) {
			return fields[1], slices.ContainsFunc(fields[2:], func(f string) bool { return strings.HasPrefix(f, "N") })
		}
	}
	t.Fatalf("no mapping begins at %p:\n%s", p, text)
	return "", false
}

func TestPolicyOfWholePages(t *testing.T) {
	node, page := needPolicies(t), int64(unix.Getpagesize())
	c := config(1)
	c.Bytes = 8 * page
	s := joinAll(t, c)[0]
	base := s.Base()
	for _, err := range []error{
		s.Interleave(page-1, 4*page+1, []int{node, node}), // pages 1 to 3
		s.Prefer(4*page, 6*page, node),
		s.Prefer(6*page+1, 8*page-1, node), // no whole page
		s.Prefer(7*page+1, 8*page-1, node),
		s.Interleave(7*page, 7*page, []int{node}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []struct {
		page   int64
		policy string
	}{{0, "default"}, {1, fmt.Sprint("interleave:", node)}, {4, fmt.Sprint("prefer:", node)}, {6, "default"}} {
		if got, _ := policyAt(t, &base[want.page*page]); got != want.policy {
			t.Errorf("the policy of page %d is %s, want %s", want.page, got, want.policy)
		}
	}
	fill(base, 1)
}

// Policies that are set before there are pages: the pages come afterwards, at once, and the policy is every member's.
func TestPrepare(t *testing.T) {
	node, page := needPolicies(t), int64(unix.Getpagesize())
	c := config(2)
	c.Bytes = 4 * page
	calls := 0
	c.Prepare = func(s *Segment) error {
		calls++
		if err := s.Interleave(0, 2*page, []int{node}); err != nil {
			return err
		}
		if policy, pages := policyAt(t, &s.Base()[0]); pages {
			t.Errorf("%s: there are pages before Prepare is done", policy)
		}
		return s.Prefer(2*page, 4*page, node)
	}
	segments := joinAll(t, c)
	if calls != 1 {
		t.Errorf("Prepare was called %d times", calls)
	}
	for i, s := range segments {
		if policy, pages := policyAt(t, &s.Base()[0]); policy != fmt.Sprint("interleave:", node) || !pages {
			t.Errorf("member %d: the policy is %s, pages: %t", i, policy, pages)
		}
	}
	if policy, pages := policyAt(t, &segments[0].Base()[2*page]); policy != fmt.Sprint("prefer:", node) || !pages {
		t.Errorf("of the second half the policy is %s, pages: %t", policy, pages)
	}
}

func TestPrepareEndsTheJoin(t *testing.T) {
	checkDescriptors(t)
	mine := errors.New("not so")
	c := config(1)
	c.Prepare = func(*Segment) error { return mine }
	if j := <-join(testContext(t), c, 0); !errors.Is(j.err, mine) || j.segment != nil {
		t.Errorf("got %v, %v", j.segment, j.err)
	}
}

func TestPolicyRefuses(t *testing.T) {
	node := needPolicies(t)
	c := config(1)
	s, local := joinAll(t, c)[0], NewLocal(1, c.Bytes, 0)[0]
	closed := joinAll(t, config(1))[0]
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err  error
		kind error
		says string
	}{
		"node of no machine": {s.Interleave(0, c.Bytes, []int{node, maxNodes - 1}), nil, "no memory of node 1023"},
		"node beyond":        {s.Prefer(0, c.Bytes, maxNodes), nil, "no memory of node 1024"},
		"negative node":      {s.Prefer(0, c.Bytes, -1), nil, "no memory of node -1"},
		"no node":            {s.Interleave(0, c.Bytes, nil), nil, "no node is named"},
		"below":              {s.Prefer(-1, c.Bytes, node), nil, "[-1, 12288) is not within"},
		"beyond":             {s.Prefer(0, c.Bytes+1, node), nil, "its base of 12288 bytes"},
		"reversed":           {s.Prefer(4096, 0, node), nil, "[4096, 0)"},
		"closed":             {closed.Prefer(0, 0, node), ErrClosed, "closed"},
		"local":              {local.Prefer(0, c.Bytes, node), errors.ErrUnsupported, "Go heap"},
		"local, interleaved": {local.Interleave(0, c.Bytes, []int{node}), errors.ErrUnsupported, "Go heap"},
	} {
		if c.err == nil || c.kind != nil && !errors.Is(c.err, c.kind) || c.kind == nil && errors.Is(c.err, errors.ErrUnsupported) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: got %v, want an error that says %q", name, c.err, c.says)
		}
	}
	if policy, _ := policyAt(t, &s.Base()[0]); policy != "default" {
		t.Errorf("calls that failed set the policy %s", policy)
	}
}

// Containers let mbind fail; so does this test's thread.
func TestPolicyInContainer(t *testing.T) {
	needPolicies(t)
	s := joinAll(t, config(1))[0]
	for _, call := range []struct {
		name   string
		number uint32
	}{{"mbind", unix.SYS_MBIND}, {"get_mempolicy", unix.SYS_GET_MEMPOLICY}} {
		for _, errno := range []unix.Errno{unix.EPERM, unix.ENOSYS} {
			refusing(t, call.number, errno, func() {
				err := s.Prefer(0, int64(len(s.Base())), 0)
				if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, errno) || !strings.Contains(err.Error(), call.name) || !strings.Contains(err.Error(), "--cap-add SYS_NICE") {
					t.Errorf("%s fails with %v: got %v", call.name, errno, err)
				}
			})
		}
	}
	if err := policyError("mbind", unix.EINVAL); errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, unix.EINVAL) {
		t.Errorf("got %v", err)
	}
}

// refusing calls f on a thread for which a system call fails, by a seccomp filter as containers have, and that ends
// afterwards.
func refusing(t *testing.T, call uint32, errno unix.Errno, f func()) {
	t.Helper()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
			runtime.KeepAlive(&program)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		testreq.Missing(t, "numa", fmt.Sprintf("a seccomp filter cannot be set: %v", err))
	}
}
