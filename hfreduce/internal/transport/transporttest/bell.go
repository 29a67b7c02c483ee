// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"os"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// NewSharedBell returns a bell that watches descriptors, as ranks that are processes have, for Implementation.NewBell.
func NewSharedBell(t testing.TB) wait.Bell {
	fd, err := wait.NewEventFD()
	if err != nil {
		t.Fatal(err)
	}
	b := wait.NewShared(new([2]uint32), fd)
	t.Cleanup(func() {
		b.Close()
		os.NewFile(uintptr(fd), "eventfd").Close()
	})
	return b
}
