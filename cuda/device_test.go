// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"regexp"
	"sync"
	"testing"

	"github.com/hfreduce/hfreduce/internal/fakecuda"
)

func TestDeviceProperties(t *testing.T) {
	d := open(t)
	if err := Available(); err != nil || !InProcess() {
		t.Errorf("available: %v, in the process: %t", err, InProcess())
	}
	line := Library()
	t.Log(line)
	if !regexp.MustCompile(`^libcudart|^libfakecuda`).MatchString(line) || !regexp.MustCompile(`\(\d+\.\d+\), driver \d+\.\d+, \d+ devices?, (no )?stream memory operations$`).MatchString(line) {
		t.Errorf("the line is %q", line)
	}
	if path := os.Getenv(envDriver); path != "" {
		if driver, why := rawOpen(path, false); driver == 0 || rawDriverVersion(driver) < 11000 {
			t.Errorf("the driver serves %d %s", rawDriverVersion(driver), why)
		}
	}
	p := d.Properties()
	t.Logf("%+v", p)
	if p.Name == "" || !regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.0$`).MatchString(p.PCIAddress) || p.Major < 3 || p.Multiprocessors < 1 || !p.UnifiedAddressing {
		t.Errorf("the properties are %+v", p)
	}
	if !fakecuda.Real() && (!p.MemoryOperations || !p.BatchOperations) {
		t.Errorf("the fake has no memory operations: %s", d.lacking)
	}
	if again := must[*Device](t)(Open(0)); again != d || d.Ordinal() != 0 {
		t.Error("a device is not the same when it is opened again")
	}
	for _, ordinal := range []int{-1, must[int](t)(DeviceCount())} {
		if _, err := Open(ordinal); !errors.Is(err, ErrInvalid) {
			t.Errorf("device %d: %v", ordinal, err)
		}
	}
}

func TestDeviceMemory(t *testing.T) {
	d := open(t)
	free, total, err := d.MemInfo()
	if err != nil || free <= 0 || free > total {
		t.Fatalf("free %d of %d, %v", free, total, err)
	}
	_, err = d.Malloc(1 << 50)
	var e *Error
	if !errors.As(err, &e) || e.Code != 2 || e.Sticky() || err.Error() != "cuda: cudaMalloc 1024 TiB on device 0: cudaErrorMemoryAllocation (2): out of memory" {
		t.Errorf("too much memory: %v", err)
	}
	if err := d.LastError(); err != nil {
		t.Errorf("the last error is %v", err)
	}
	for _, bytes := range []int64{0, -1} {
		_, deviceErr := d.Malloc(bytes)
		_, hostErr := d.HostAlloc(bytes)
		if !errors.Is(deviceErr, ErrInvalid) || !errors.Is(hostErr, ErrInvalid) {
			t.Errorf("%d bytes: %v, %v", bytes, deviceErr, hostErr)
		}
	}
	if _, err := d.Register(nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("no memory to register: %v", err)
	}
	if err := d.Free(0); err != nil {
		t.Error(err)
	}
	if err := d.Free(0x1234); err == nil {
		t.Error("memory that is not there was given back")
	}
}

func TestHostMemory(t *testing.T) {
	d := open(t)
	memory := mapped(t, 8192)
	h := must[*HostMemory](t)(d.Register(memory))
	if _, err := d.Register(memory); err == nil {
		t.Error("memory was registered twice")
	}
	if b := h.Bytes(); len(b) != 8192 || &b[0] != &memory[0] || h.HostPtr(5) != Ptr(address(memory))+5 || h.DevicePtr(5) != h.DevicePtr(0)+5 {
		t.Error("the memory is not where it was")
	}
	for _, offset := range []int64{-4, 2, 8190, 8192} {
		if _, err := h.Word(offset); !errors.Is(err, ErrInvalid) {
			t.Errorf("a word at %d: %v", offset, err)
		}
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	if h.Bytes() != nil || h.HostPtr(0) != 0 {
		t.Error("closed memory can be used")
	}
	alloc := newHostMemory(t, d, 100)
	if !bytes.Equal(alloc.Bytes(), make([]byte, 100)) {
		t.Error("new memory is not zero")
	}
}

// TestPointers asks from goroutines whose threads have not called CUDA before.
func TestPointers(t *testing.T) {
	d := open(t)
	p, h := newDeviceMemory(t, d, 1<<20), newHostMemory(t, d, 4096)
	own := mapped(t, 4096)
	fresh := func(f func()) {
		var wg sync.WaitGroup
		wg.Go(f)
		wg.Wait()
	}
	for _, c := range []struct {
		p    Ptr
		want Attributes
	}{
		{p, Attributes{DeviceMemory, 0}}, {p + 1<<19, Attributes{DeviceMemory, 0}}, {h.HostPtr(8), Attributes{Host, 0}},
		{Ptr(address(own)), Attributes{Unregistered, -1}},
	} {
		fresh(func() {
			if got, err := PointerAttributes(c.p); got != c.want || err != nil {
				t.Errorf("0x%x is %+v, %v, want %+v", uintptr(c.p), got, err, c.want)
			}
		})
	}
	fresh(func() {
		if base, n, err := AddressRange(p + 12345); base != p || n != 1<<20 || err != nil {
			t.Errorf("the range is 0x%x and %d bytes, %v, want 0x%x", uintptr(base), n, err, uintptr(p))
		}
		if _, _, err := AddressRange(Ptr(address(own))); !errors.Is(err, ErrInvalid) {
			t.Errorf("the range of host memory: %v", err)
		}
	})
}

func TestStreamsAndEvents(t *testing.T) {
	d := open(t)
	s := must[Stream](t)(d.NewStream(true))
	from, to := newEvent(t, d, true), newEvent(t, d, true)
	if n := Live(); n["streams"] != 1 || n["events"] != 2 || len(n) != 2 {
		t.Errorf("live are %v", n)
	}
	if done, err := d.QueryEvent(from); !done || err != nil {
		t.Errorf("an event that was never recorded: done %t, %v", done, err)
	}
	var c Commands
	c.Record(from, s)
	c.Fill(s, newDeviceMemory(t, d, 1<<20), 1, 1<<20)
	c.Record(to, s)
	if err := d.Run(&c); err != nil {
		t.Fatal(err)
	}
	if err := d.SynchronizeEvent(to); err != nil {
		t.Error(err)
	}
	if done, err := d.QueryEvent(from); !done || err != nil {
		t.Errorf("done %t, %v", done, err)
	}
	if took, err := d.Elapsed(from, to); took <= 0 || took > patience || err != nil {
		t.Errorf("took %v, %v", took, err)
	}
	until(t, "the stream", func() bool { return must[bool](t)(d.Query(s)) })
	if capturing, err := d.Capturing(s); capturing || err != nil {
		t.Errorf("capturing %t, %v", capturing, err)
	}
	if err := errors.Join(d.SynchronizeDevice(), d.DestroyStream(s)); err != nil {
		t.Error(err)
	}
}

// TestDevicesFromManyGoroutines: threads that two devices share get the right one for each call.
func TestDevicesFromManyGoroutines(t *testing.T) {
	d := open(t)
	other := must[*Device](t)(Open(must[int](t)(DeviceCount()) - 1))
	var wg sync.WaitGroup
	for i := range 8 {
		on := []*Device{d, other}[i%2]
		wg.Go(func() {
			for range 50 {
				p, err := on.Malloc(4096)
				if err != nil {
					t.Error(err)
					return
				}
				if a, err := PointerAttributes(p); err != nil || a.Device != on.ordinal {
					t.Errorf("memory of device %d is %+v, %v", on.ordinal, a, err)
				}
				if err := on.Free(p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if other == d {
		return // there is one device only, and no peer
	}
	if can, err := d.CanAccess(other); err != nil || !can && !fakecuda.Real() {
		t.Errorf("can access %t, %v", can, err)
	} else if can {
		for range 2 {
			if err := d.EnablePeer(other); err != nil {
				t.Error(err)
			}
		}
	}
}

// envHandle is the handle that the process of TestIPC's other side gets.
const envHandle = "HFREDUCE_CUDA_TEST_HANDLE"

func TestIPC(t *testing.T) {
	d := open(t)
	p := newDeviceMemory(t, d, 4096)
	sent := fill(mapped(t, 4096), 3)
	if err := d.Memcpy(p, Ptr(address(sent)), 4096, ToDevice); err != nil {
		t.Fatal(err)
	}
	h := must[[64]byte](t)(d.IPCHandle(p))
	child(t, "^TestIPCPeer$", envHandle+"="+hex.EncodeToString(h[:]))
	got := mapped(t, 4096)
	if err := d.Memcpy(Ptr(address(got)), p, 4096, ToHost); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, fill(make([]byte, 4096), 4)) {
		t.Error("the other process did not write")
	}
}

// TestIPCPeer is the other process of TestIPC.
func TestIPCPeer(t *testing.T) {
	text := os.Getenv(envHandle)
	if text == "" {
		return // this is not that process
	}
	d := open(t)
	p := must[Ptr](t)(d.OpenIPC([64]byte(must[[]byte](t)(hex.DecodeString(text)))))
	b := mapped(t, 4096)
	if err := d.Memcpy(Ptr(address(b)), p, 4096, ToHost); err != nil || !bytes.Equal(b, fill(make([]byte, 4096), 3)) {
		t.Errorf("the bytes are not the other process's: %v", err)
	}
	if err := d.Memcpy(p, Ptr(address(fill(b, 4))), 4096, ToDevice); err != nil {
		t.Error(err)
	}
	if err := errors.Join(d.SynchronizeDevice(), d.CloseIPC(p)); err != nil {
		t.Error(err)
	}
}
