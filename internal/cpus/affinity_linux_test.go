// SPDX-License-Identifier: Apache-2.0

package cpus

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestBindThread(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	before, err := Allowed()
	if err != nil {
		t.Fatal(err)
	}
	one := before.Share(before.Count()-1, before.Count())
	restore, err := BindThread(one)
	if err != nil {
		t.Fatal(err)
	}
	here, err := Allowed()
	if err != nil || here != one {
		t.Errorf("bound to %v, this thread may run on %v, %v", one, here, err)
	}
	child, err := exec.Command("grep", "Cpus_allowed_list", "/proc/self/status").Output()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(child)), "\t"+one.String()) {
		t.Errorf("bound to %v, a child says %q, %v", one, child, err)
	}
	for _, bad := range []Set{"", Of(maskBits - 1), Of(maskBits + 5)} {
		if restore, err := BindThread(bad); err == nil || restore != nil {
			t.Errorf("bound to processors %v, which are not there: %v", bad, err)
		}
	}
	if here, err := Allowed(); err != nil || here != one {
		t.Errorf("after bindings that failed, this thread may run on %v, %v; it was bound to %v", here, err, one)
	}
	restore()
	if here, err := Allowed(); err != nil || here != before {
		t.Errorf("restored, this thread may run on %v, %v; at first it was %v", here, err, before)
	}
	if online, err := Online(); err != nil || online.Intersection(before) != before {
		t.Errorf("online are %v, allowed %v, %v", online, before, err)
	}
}

// Bind changes the whole process, so it runs in one of its own.
func TestBind(t *testing.T) {
	const mark = "HFREDUCE_TEST_BIND"
	if list := os.Getenv(mark); list != "" {
		s, err := Parse(list)
		if err == nil {
			err = Bind(s)
		}
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				runtime.LockOSThread() // old threads and new ones
				if got, err := Allowed(); err != nil || got != s {
					t.Errorf("bound to %v, a thread may run on %v, %v", s, got, err)
				}
			})
		}
		wg.Wait()
		return
	}
	allowed, err := Allowed()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestBind$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"="+allowed.Share(0, allowed.Count()).String())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestBind") {
		t.Errorf("%v\n%s", err, out)
	}
}
