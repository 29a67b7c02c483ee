// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// TestAreasHaveTheirPages: no page of a new area is missing, whatever memory it is.
func TestAreasHaveTheirPages(t *testing.T) {
	comms, err := hfreduce.NewLocal([]int{0}, hfreduce.Options{CUDA: hfreduce.CUDAOff})
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	for _, registered := range []bool{false, true} {
		r := &rank{cfg: &Config{Registered: registered}, comm: comms[0], max: 64 << 20}
		a, err := r.newArea()
		if err != nil {
			t.Fatal(err)
		}
		skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(a.bytes))) % uintptr(page))
		whole := a.bytes[skip : skip+(len(a.bytes)-skip)/page*page]
		there := make([]byte, len(whole)/page)
		if _, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(&whole[0])), uintptr(len(whole)), uintptr(unsafe.Pointer(&there[0]))); errno != 0 {
			t.Fatal(errno)
		}
		missing := slices.DeleteFunc(there, func(b byte) bool { return b&1 != 0 })
		if len(missing) > 0 {
			t.Errorf("registered %t: %d of %d pages are missing", registered, len(missing), len(whole)/page)
		}
		if err := a.free(); err != nil {
			t.Error(err)
		}
	}
	if err := comms[0].Close(t.Context()); err != nil {
		t.Error(err)
	}
}
