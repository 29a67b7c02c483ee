// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package kernelbench

/*
#include <string.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
static const char *libc_name(void) { return gnu_get_libc_version(); }
#else
static const char *libc_name(void) { return ""; }
#endif

// The barrier keeps the compiler from seeing that all copies are the same.
static void copy_times(void *to, const void *from, size_t bytes, long times) {
	for (long i = 0; i < times; i++) {
		memcpy(to, from, bytes);
		__asm__ volatile("" : : "r"(to), "r"(from) : "memory");
	}
}
*/
import "C"

import "unsafe"

// libcCopy is libc's memcpy, by which C programs are measured.
func libcCopy() (yardstick, bool) {
	name := "memcpy (libc)"
	if version := C.GoString(C.libc_name()); version != "" {
		name = "memcpy (glibc " + version + ")"
	}
	return yardstick{name: name, short: "memcpy", copy: func(to, from []byte, times int) {
		C.copy_times(unsafe.Pointer(unsafe.SliceData(to)), unsafe.Pointer(unsafe.SliceData(from)), C.size_t(len(to)), C.long(times))
	}}, true
}
