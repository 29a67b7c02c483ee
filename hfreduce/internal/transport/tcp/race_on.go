// SPDX-License-Identifier: Apache-2.0

//go:build race

package tcp

import (
	"runtime"
	"unsafe"
)

// The race detector does not see what the kernel reads and writes, so it is told.

func raceRead(b []byte) {
	if len(b) > 0 {
		runtime.RaceReadRange(unsafe.Pointer(&b[0]), len(b))
	}
}

func raceWrite(b []byte) {
	if len(b) > 0 {
		runtime.RaceWriteRange(unsafe.Pointer(&b[0]), len(b))
	}
}
