// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/internal/fakecuda"
)

// envFault says to a process which of these tests started it.
const envFault = "HFREDUCE_CUDA_TEST_FAULT"

// TestFault runs tests in processes whose fake has a fault.
func TestFault(t *testing.T) {
	if os.Getenv(envFault) != "" {
		return // this is such a process
	}
	fakecuda.NeedFake(t)
	open(t)
	for name, env := range map[string][]string{
		"Lost":      {"FAKECUDA_FAIL=async:1:700"},
		"NoMemory":  {"FAKECUDA_NO_MEMOPS=1"},
		"NoBatches": {"FAKECUDA_NO_BATCH=1"},
		"NoDevice":  {"FAKECUDA_DEVICES=0"},
		"Capture":   {"FAKECUDA_CAPTURE=1"},
		"Slow":      {"FAKECUDA_DELAY_US=300", "FAKECUDA_QUEUES=2", "FAKECUDA_STRICT=1", "FAKECUDA_HOST_OFFSET=1048576"},
	} {
		pattern := "^TestFault" + name + "$"
		if name == "Slow" || name == "NoBatches" || name == "NoMemory" || name == "Capture" {
			pattern += "|^TestRun"
		}
		child(t, pattern, append(env, envFault+"="+name)...)
	}
}

// faulty reports whether this process was started for a fault.
func faulty(name string) bool { return os.Getenv(envFault) == name }

// TestFaultLost: an operation fails while it runs. All calls say so from then on, and LastError does.
func TestFaultLost(t *testing.T) {
	if !faulty("Lost") {
		return
	}
	d := open(t)
	s := must[Stream](t)(d.NewStream(false))
	p := must[Ptr](t)(d.Malloc(64))
	var c Commands
	c.Fill(s, p, 1, 64)
	if err := d.Run(&c); err != nil {
		t.Fatal(err)
	}
	err := d.Synchronize(s)
	var e *Error
	if !errors.As(err, &e) || !e.Sticky() || e.Code != 700 || e.Name != "cudaErrorIllegalAddress" {
		t.Errorf("error %v", err)
	}
	for range 2 {
		if err := d.LastError(); !errors.As(err, &e) || !e.Sticky() {
			t.Errorf("the last error is %v", err)
		}
	}
	if _, err := d.Malloc(64); !errors.As(err, &e) || !e.Sticky() {
		t.Errorf("after that: %v", err)
	}
	for r := range resources { // nothing of a lost context can be given back
		live[r].Store(0)
	}
}

// TestFaultNoMemory: memory operations that are there and do not work are not used.
func TestFaultNoMemory(t *testing.T) {
	if !faulty("NoMemory") {
		return
	}
	d := open(t)
	if p := d.Properties(); p.MemoryOperations || p.BatchOperations || !strings.HasSuffix(Library(), ", no stream memory operations") {
		t.Errorf("the properties are %+v, the line %q", p, Library())
	}
	s, h := newStream(t, d), newHostMemory(t, d, 64)
	var c Commands
	c.Fill(s, newDeviceMemory(t, d, 64), 1, 64)
	c.Write(s, must[Word](t)(h.Word(0)), 1)
	if done, err := d.RunTo(&c, 0); done != 0 || !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "CUDA_ERROR_NOT_SUPPORTED") {
		t.Errorf("done %d, %v", done, err)
	}
}

func TestFaultNoBatches(t *testing.T) {
	if !faulty("NoBatches") {
		return
	}
	if p := open(t).Properties(); !p.MemoryOperations || p.BatchOperations {
		t.Errorf("the properties are %+v", p)
	}
}

func TestFaultNoDevice(t *testing.T) {
	if !faulty("NoDevice") {
		return
	}
	err := Available()
	if _, openErr := Open(0); !errors.Is(err, ErrNotSupported) || openErr == nil {
		t.Errorf("%v, %v", err, openErr)
	}
	if line := Library(); !strings.Contains(line, "evice") {
		t.Errorf("the line %q does not say that there is no device", line)
	}
}

// TestFaultCapture: another thread captures a graph. What is done here neither fails nor spoils it.
func TestFaultCapture(t *testing.T) {
	if !faulty("Capture") {
		return
	}
	d := open(t)
	if !d.Properties().MemoryOperations {
		t.Errorf("there are no memory operations: %s", d.lacking)
	}
	h := must[*HostMemory](t)(d.Register(mapped(t, 4096)))
	s, e := must[Stream](t)(d.NewStream(true)), must[Event](t)(d.NewEvent(true))
	p := must[Ptr](t)(d.Malloc(64))
	_, streamErr := d.Query(s)
	_, eventErr := d.QueryEvent(e)
	for _, err := range []error{streamErr, eventErr, d.Synchronize(s), d.SynchronizeEvent(e), d.DestroyEvent(e), d.DestroyStream(s), d.Free(p), h.Close()} {
		if err != nil {
			t.Error(err)
		}
	}
}

// TestFaultSlow is there for the tests of Run that go with it.
func TestFaultSlow(t *testing.T) {
	if faulty("Slow") && !open(t).Properties().MemoryOperations {
		t.Error("there are no memory operations")
	}
}
