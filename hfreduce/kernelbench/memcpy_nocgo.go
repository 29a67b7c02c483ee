// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package kernelbench

// libcCopy returns false: without cgo there is no libc in the program.
func libcCopy() (yardstick, bool) { return yardstick{}, false }
