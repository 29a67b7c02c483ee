// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "libhfreduce: needs cgo: make lib, with a C compiler")
	os.Exit(1)
}
