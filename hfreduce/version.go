// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"runtime/debug"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

const modulePath = "github.com/hfreduce/hfreduce"

// Version returns the module's version as the Go build recorded it, "(devel)" when it did not.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(devel)"
	}
	if info.Main.Path == modulePath && info.Main.Version != "" {
		return info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path == modulePath {
			return m.Version
		}
	}
	return "(devel)"
}

// Features lists what this build can do on this machine, one feature a line: "kernel generic", "transport tcp".
func Features() []string {
	backend, _ := kernel.Selected() // Init returns the error
	return []string{"kernel " + backend.String(), "transport shm", "transport tcp"}
}
