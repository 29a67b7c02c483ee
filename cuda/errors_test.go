// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"fmt"
	"testing"
)

func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		err  Error
		want string
	}{
		{Error{"cudaMalloc", "4 GiB on device 1", 2, "cudaErrorMemoryAllocation", "out of memory"},
			"cuda: cudaMalloc 4 GiB on device 1: cudaErrorMemoryAllocation (2): out of memory"},
		{Error{Call: "cudaGetDeviceCount", Code: 100, Name: "cudaErrorNoDevice"}, "cuda: cudaGetDeviceCount: cudaErrorNoDevice (100)"},
		{Error{Call: "cuStreamBatchMemOp_v2", What: "on device 0", Code: 12345}, "cuda: cuStreamBatchMemOp_v2 on device 0: error 12345"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestErrorIs(t *testing.T) {
	code := func(n int) error { return fmt.Errorf("start: %w", &Error{Call: "cudaMalloc", Code: n}) }
	lacks := fmt.Errorf("start: %w", notSupported{"built without cgo"})
	for _, c := range []struct {
		err, target error
		want        bool
	}{
		{code(801), ErrNotSupported, true}, {code(100), ErrNotSupported, true}, {code(35), errors.ErrUnsupported, true},
		{code(34), ErrNotSupported, true}, {code(36), ErrNotSupported, true},
		{code(2), ErrNotSupported, false}, {code(801), ErrInvalid, false}, {code(700), errors.ErrUnsupported, false},
		{lacks, ErrNotSupported, true}, {lacks, errors.ErrUnsupported, true}, {lacks, ErrInvalid, false},
		{ErrNotSupported, errors.ErrUnsupported, true}, {invalidf("device %d", -1), ErrInvalid, true},
	} {
		if got := errors.Is(c.err, c.target); got != c.want {
			t.Errorf("errors.Is(%q, %q) is %t", c.err, c.target, got)
		}
	}
	if failed(result{}, "anything") != nil {
		t.Error("success is an error")
	}
}

func TestErrorSticky(t *testing.T) {
	for code, want := range map[int]bool{0: false, 1: false, 2: false, 100: false, 600: false, 704: false, 712: false,
		214: true, 220: true, 226: true, 221: false, 720: false, 721: true, 801: false, 700: true, 702: true, 710: true, 715: true, 716: true, 719: true, 999: true,
		809: false, 810: true, 811: false, 911: true} {
		if got := (&Error{Code: code}).Sticky(); got != want {
			t.Errorf("code %d: sticky is %t", code, got)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1: "1 B", 1000: "1000 B", 1 << 10: "1 KiB", 3 << 19: "1536 KiB", 4 << 30: "4 GiB", 1 << 53: "8192 TiB", -4096: "-4 KiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) is %q, want %q", n, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		ToHost.String(): "to the host", ToDevice.String(): "to the device", OnDevice.String(): "on the device", Kind(7).String(): "cuda.Kind(7)",
		Unregistered.String(): "unregistered", Managed.String(): "managed", MemoryType(-1).String(): "cuda.MemoryType(-1)",
		version(12040): "12.4", version(11080): "11.8", version(13010): "13.1",
		(&command{op: opCopy, value: 2, bytes: 4096}).String():            "4 KiB to the host",
		(&command{op: opCopy2D, value: 1, bytes: 64, height: 3}).String(): "3 rows of 64 B to the device",
		(&command{op: opFill, bytes: 1 << 20}).String():                   "1 MiB",
		(&command{op: opWait, value: 7, dst: 0x1000}).String():            "value 7 at 0x1000",
		(&command{op: opRecord, dst: 0x1000, stream: 0x2000}).String():    "of an event",
		(&command{op: opWaitEvent, dst: 0x1000, stream: 0x2000}).String(): "of an event",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
