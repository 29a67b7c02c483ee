// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// envMissing says what Library must find missing, in a run of these tests that another test starts.
const envMissing = "HFREDUCE_RDMA_TEST_MISSING"

// TestLibraryAndAvailableAgree: with a device there is no error; without, the error and the line say the same reason.
func TestLibraryAndAvailableAgree(t *testing.T) {
	line, err := Library(), Available()
	t.Log(line)
	if err == nil {
		if !strings.HasPrefix(line, "libibverbs.so.1 loaded, ") || !strings.HasSuffix(line, "device") && !strings.HasSuffix(line, "devices") {
			t.Errorf("the line is %q", line)
		}
		return
	}
	if !errors.Is(err, ErrNotSupported) || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("error %v, want ErrNotSupported", err)
	}
	reason, ok := strings.CutPrefix(err.Error(), "rdma: not supported: ")
	if !ok || !strings.HasSuffix(line, reason) {
		t.Errorf("the error is %q, the line %q", err, line)
	}
	if _, err := Open("none0"); err == nil {
		t.Error("opened a device that is not there")
	}
}

func TestLibraryThatIsMissing(t *testing.T) {
	want := os.Getenv(envMissing)
	if want == "" {
		if load() == nil {
			return
		}
		want = Library()
	}
	if got := Library(); !strings.Contains(got, want) {
		t.Errorf("missing is %q, want %q", got, want)
	}
	_, listErr := Devices()
	_, openErr := Open("mlx5_0")
	for _, err := range []error{Available(), listErr, openErr} {
		if !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want ErrNotSupported because of %q", err, want)
		}
	}
}

func TestMemoryLock(t *testing.T) {
	limit, unlimited, err := MemoryLock()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("limit %d, unlimited %t", limit, unlimited)
	limitMemory(t, 1<<16)
	for _, unprivileged := range []bool{false, true} {
		call := func() { limit, unlimited, err = MemoryLock() }
		if unprivileged {
			withoutIPCLock(t, call)
		} else {
			call()
		}
		if limit != 1<<16 || unlimited && (unprivileged || os.Geteuid() != 0) || err != nil {
			t.Errorf("unprivileged %t: the limit is %d, unlimited %t, %v", unprivileged, limit, unlimited, err)
		}
	}
}

// limitMemory sets RLIMIT_MEMLOCK for the length of a test.
func limitMemory(t *testing.T, bytes uint64) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
		t.Fatal(err)
	}
	set := func(soft uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: soft, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
	}
	set(min(bytes, old.Max))
	t.Cleanup(func() { set(old.Cur) })
}

// withoutIPCLock calls f on a thread that gave CAP_IPC_LOCK up, if it had it, and that ends afterwards.
func withoutIPCLock(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		if err == nil {
			data[0].Effective &^= 1 << unix.CAP_IPC_LOCK
			err = unix.Capset(&header, &data[0])
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
