// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package cuda

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// compileC makes a shared library of C sources.
func compileC(t *testing.T, path string, args ...string) {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		testreq.Missing(t, "tools", err.Error())
	}
	for _, a := range args {
		if _, err := os.Stat(a); err != nil && strings.HasSuffix(a, ".c") {
			testreq.Missing(t, "tools", "the sources are not in the working directory")
		}
	}
	build := exec.Command(gcc, append([]string{"-shared", "-fPIC", "-std=gnu2x", "-o", path}, args...)...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
}

// again runs the tests of a pattern in a process of their own, with libraries of their own.
func again(t *testing.T, pattern, runtime, driver string, env ...string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", pattern, "-test.v")
	cmd.Env = append(os.Environ(), envRuntime+"="+runtime, envDriver+"="+driver, testreq.Variable+"=")
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: ") {
		t.Errorf("%v: %v\n%s", cmd, err, out)
	}
}

// envRecordedDriver says what driver the recorder is: an old one does not copy.
const (
	envRecordedDriver = "HFREDUCE_TEST_RECORDED_DRIVER"
	oldDriver         = "OLD_DRIVER"
)

// TestBuildWithRecorder runs the tests of what CUDA is told with a library that only takes notes.
func TestBuildWithRecorder(t *testing.T) {
	if inner() {
		return // this is such a run
	}
	for _, driver := range []string{"NEW_DRIVER", oldDriver} {
		dir := t.TempDir()
		path := filepath.Join(dir, "librecorder.so")
		compileC(t, path, "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-D"+driver, "testdata/recorder/all.c", "testdata/recorder/recorder.c")
		again(t, "^TestRecorded$", path, path, envRecorder+"="+filepath.Join(dir, "log"), envRecordedDriver+"="+driver)
	}
}

// TestRecorded runs in a process that TestBuildWithRecorder starts.
func TestRecorded(t *testing.T) {
	if os.Getenv(envRecorder) == "" {
		return // this is not that process
	}
	t.Run("commands", testRecordedCommands)
	t.Run("device", testRecordedDevice)
	t.Run("failure", testRecordedFailure)
	t.Run("probe", testRecordedProbe)
	t.Run("allocatesnothing", testRecordedAllocatesNothing)
}

// recorded opens a device of the recorder, and returns what reads and empties its notes. The test keeps its thread.
func recorded(t *testing.T, ordinal int) (*Device, func() []string) {
	t.Helper()
	path := os.Getenv(envRecorder)
	runtime.LockOSThread() // for good: the thread has a current device
	d, err := Open(ordinal)
	if err != nil {
		t.Fatal(err)
	}
	d.Properties()
	notes := func() []string {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(strings.Split(string(b), "\n"), func(s string) bool { return s == "" })
	}
	notes()
	return d, notes
}

func wantNotes(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("CUDA was told\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// testRecordedCommands: each command arrives with all its arguments, and memory operations that can go together do.
func testRecordedCommands(t *testing.T) {
	d, notes := recorded(t, 0)
	if p := d.Properties(); !p.MemoryOperations || !p.BatchOperations {
		t.Fatalf("properties are %+v: %s", p, d.lacking)
	}
	memory, err := d.HostAlloc(8)
	if err != nil {
		t.Fatal(err)
	}
	w, err := memory.Word(4)
	if err != nil {
		t.Fatal(err)
	}
	var c Commands
	c.Copy(0x10, 0x1000, 0x2000, 8, ToHost)
	c.Copy2D(0x10, 0x1000, 64, 0x2000, 32, 16, 3, ToDevice)
	c.Fill(0x20, 0x3000, 7, 100)
	c.Write(0x10, w, 5)
	c.Wait(0x10, w, 6)
	c.Wait(0x20, w, 7)
	c.Record(0x30, 0x10)
	c.WaitEvent(0x20, 0x30)
	if err := d.Run(&c); err != nil || c.Len() != 8 {
		t.Error(err, c.Len())
	}
	copies := []string{"driver copy 0x1000 8 0x2000 8 8 x 1 to the host on 0x10", "driver copy 0x1000 64 0x2000 32 16 x 3 to the device on 0x10"}
	if os.Getenv(envRecordedDriver) == oldDriver {
		copies = []string{"copy 0x1000 0x2000 8 kind 2 on 0x10", "copy2d 0x1000 64 0x2000 32 16 x 3 kind 1 on 0x10"}
	}
	wantNotes(t, notes(), append(copies,
		"fill 0x3000 7 100 on 0x20",
		"batch of 2 flags 0 on 0x10: write 5 flags 0 wait for 6 flags 0",
		"wait for 7 flags 0 on 0x20",
		"record 0x30 on 0x10",
		"wait for event 0x30 on 0x20")...)
	if *w.Host != 5 {
		t.Errorf("the word is %d", *w.Host)
	}
	t.Run("kinds", func(t *testing.T) { testRecordedKinds(t, d, notes) })
	t.Setenv("RECORDER_UNBOUND", "1") // the thread's first call is one of the driver
	if err := d.Run(&c); err != nil {
		t.Error(err)
	}
	got, first := notes(), 0
	if os.Getenv(envRecordedDriver) == oldDriver {
		first = 3
	}
	if len(got) != 8 || got[first] != "free (nil)" || !strings.Contains(got[4], "batch") {
		t.Errorf("without a context CUDA was told %q", got)
	}
	c.Reset()
	for i := range 64 + 64 + 1 {
		c.Wait(0x10, w, uint32(i))
	}
	if err := d.Run(&c); err != nil {
		t.Error(err)
	}
	if got = notes(); len(got) != 4 || !strings.HasPrefix(got[1], "batch of 64") || !strings.HasPrefix(got[2], "batch of 64") || got[3] != "wait for 128 flags 0 on 0x10" {
		t.Errorf("129 waits became %d calls: %q", len(got), got)
	}
	if err := memory.Close(); err != nil {
		t.Error(err)
	}
}

// testRecordedKinds: what the driver cannot copy is the runtime's to copy.
func testRecordedKinds(t *testing.T, d *Device, notes func() []string) {
	var c Commands
	c.Copy(0x10, 0x1000, 0x2000, 8, OnDevice)
	c.Copy(0x10, 0x1000, 0x2000, 8, Any)
	c.Copy(0x10, 0x1000, 0x2000, 0, ToHost)
	c.Copy(0x10, 0x1000, 0x2000, 1<<31, ToHost)
	c.Copy2D(0x10, 0x1000, 1<<31, 0x2000, 32, 16, 3, ToDevice)
	c.Copy2D(0x10, 0x1000, 64, 0x2000, 1<<31, 16, 3, ToHost)
	c.Copy2D(0x10, 0x1000, 64, 0x2000, 32, 16, 0, ToDevice)
	if err := d.Run(&c); err != nil {
		t.Error(err)
	}
	wantNotes(t, notes(),
		"copy 0x1000 0x2000 8 kind 3 on 0x10",
		"copy 0x1000 0x2000 8 kind 4 on 0x10",
		"copy 0x1000 0x2000 0 kind 2 on 0x10",
		"copy 0x1000 0x2000 2147483648 kind 2 on 0x10",
		"copy2d 0x1000 2147483648 0x2000 32 16 x 3 kind 1 on 0x10",
		"copy2d 0x1000 64 0x2000 2147483648 16 x 3 kind 2 on 0x10",
		"copy2d 0x1000 64 0x2000 32 16 x 0 kind 1 on 0x10")
}

// testRecordedDevice: the thread's device is set, and set back where that makes no context.
func testRecordedDevice(t *testing.T) {
	d, notes := recorded(t, 1)
	zero, err := Open(0)
	if err != nil {
		t.Fatal(err)
	}
	var c Commands
	c.Record(0x30, 0x10)
	if err := zero.Run(&c); err != nil {
		t.Error(err)
	}
	notes()
	t.Setenv("RECORDER_USED", "0")
	if err := d.Run(&c); err != nil {
		t.Error(err)
	}
	if _, err := d.QueryEvent(0); err != nil {
		t.Error(err)
	}
	wantNotes(t, notes(), "set 1", "record 0x30 on 0x10", "set 0", "set 1", "set 0")
	t.Setenv("RECORDER_USED", "1")
	for range 2 {
		if err := d.Run(&c); err != nil {
			t.Error(err)
		}
	}
	wantNotes(t, notes(), "set 1", "record 0x30 on 0x10", "record 0x30 on 0x10")
	if done, err := d.QueryEvent(1); done || err != nil {
		t.Errorf("done %t, %v", done, err)
	}
	wantNotes(t, notes(), "last") // "not ready" is an error of the thread's, too
	t.Setenv("RECORDER_USED", "0,1")
	t.Setenv("RECORDER_FAIL", "cudaSetDevice=700") // a device that is lost becomes the current one nevertheless
	if err := zero.Run(&c); err == nil {
		t.Error("no error on a device that is lost")
	}
	wantNotes(t, notes(), "set 0", "last", "set 1", "last")
}

// testRecordedFailure: nothing follows the command that fails, the error names it, and the thread's last error is taken.
func testRecordedFailure(t *testing.T) {
	d, notes := recorded(t, 0)
	var c Commands
	c.Record(0x30, 0x10)
	c.Copy(0x10, 0x1000, 0x2000, 1<<20, Any)
	c.Record(0x31, 0x10)
	t.Setenv("RECORDER_FAIL", "cudaMemcpyAsync=1")
	done, err := d.RunTo(&c, 0)
	const want = "cuda: cudaMemcpyAsync 1 MiB somewhere (command 2 of 3) on device 0: cudaErrorInvalidValue (1): invalid argument"
	if done != 1 || err == nil || err.Error() != want {
		t.Errorf("done %d: %q, want %q", done, err, want)
	}
	wantNotes(t, notes(), "record 0x30 on 0x10", "copy 0x1000 0x2000 1048576 kind 4 on 0x10", "last")
	if done, err := d.RunTo(&c, 2); done != 3 || err != nil {
		t.Errorf("done %d, %v", done, err)
	}
	for from, want := range map[int]error{3: nil, 4: ErrInvalid, -1: ErrInvalid} {
		if _, err := d.RunTo(&c, from); !errors.Is(err, want) {
			t.Errorf("from %d: %v", from, err)
		}
	}
}

// testRecordedProbe: what fails on the private stream is not used.
func testRecordedProbe(t *testing.T) {
	t.Setenv("RECORDER_FAIL", "cuStreamBatchMemOp_v2=801")
	d, notes := recorded(t, 2)
	if p := d.Properties(); !p.MemoryOperations || p.BatchOperations {
		t.Errorf("without batches the properties are %+v", p)
	}
	memory, err := d.HostAlloc(8)
	if err != nil {
		t.Fatal(err)
	}
	w, err := memory.Word(0)
	if err != nil {
		t.Fatal(err)
	}
	var c Commands
	c.Write(0x10, w, 1)
	c.Wait(0x10, w, 1)
	notes()
	if err := d.Run(&c); err != nil {
		t.Error(err)
	}
	wantNotes(t, slices.DeleteFunc(notes(), func(s string) bool { return strings.HasPrefix(s, "set ") }),
		"write 1 flags 0 on 0x10", "wait for 1 flags 0 on 0x10")

	t.Setenv("RECORDER_FAIL", "cuStreamWriteValue32_v2=801")
	d, notes = recorded(t, 3)
	if p := d.Properties(); p.MemoryOperations || p.BatchOperations {
		t.Errorf("without memory operations the properties are %+v", p)
	}
	err = d.Run(&c)
	const want = "cuda: not supported: device 3 has no stream memory operations: cuStreamWriteValue32_v2 value 1 at 0x"
	const end = " (command 1 of 2) on device 3: CUDA_ERROR_NOT_SUPPORTED (801): operation not supported"
	if !errors.Is(err, ErrNotSupported) || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), end) {
		t.Errorf("%q, want %q ... %q", err, want, end)
	}
	wantNotes(t, notes())
	if err := memory.Close(); err != nil {
		t.Error(err)
	}
}

// testRecordedAllocatesNothing: a list that is filled and run again and again costs no allocation.
func testRecordedAllocatesNothing(t *testing.T) {
	d, _ := recorded(t, 0)
	memory, err := d.HostAlloc(8)
	if err != nil {
		t.Fatal(err)
	}
	w, err := memory.Word(0)
	if err != nil {
		t.Fatal(err)
	}
	var c Commands
	n := testing.AllocsPerRun(100, func() {
		c.Reset()
		c.Copy(0x10, 0x1000, 0x2000, 8, ToHost)
		c.Write(0x10, w, 1)
		c.Wait(0x10, w, 1)
		err = errors.Join(err, d.Run(&c))
		if _, queryErr := d.QueryEvent(0); queryErr != nil {
			err = queryErr
		}
	})
	if n != 0 || err != nil {
		t.Errorf("%v allocations, %v", n, err)
	}
	if err := memory.Close(); err != nil {
		t.Error(err)
	}
}
