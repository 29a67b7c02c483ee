// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// versionCommand tells what this build is.
type versionCommand struct {
	JSON bool `name:"json" help:"Print as JSON."`
}

// build is what is known of this build.
type build struct {
	Version  string   `json:"version"`
	Revision string   `json:"revision"` // of git, "" if not known
	Modified bool     `json:"modified"` // the sources were changed since
	Time     string   `json:"time"`     // of the revision
	Go       string   `json:"go"`
	OS       string   `json:"os"`
	Arch     string   `json:"arch"`
	Features []string `json:"features"`
}

// Run prints the version.
func (c *versionCommand) Run(s *system) error {
	b := thisBuild()
	if c.JSON {
		e := json.NewEncoder(s.stdout)
		e.SetIndent("", "  ")
		return e.Encode(b)
	}
	return b.print(s.stdout)
}

func thisBuild() build {
	b := build{Version: hfreduce.Version(), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Features: hfreduce.Features()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.time":
			b.Time = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}

// print writes the build for people.
func (b build) print(w io.Writer) error {
	revision := "unknown"
	if b.Revision != "" {
		revision = b.Revision + " of " + b.Time
	}
	if b.Modified {
		revision += " (modified)"
	}
	_, err := fmt.Fprintf(w, "hfreduce %s\nrevision %s\n%s %s/%s\n%s\n", b.Version, revision, b.Go, b.OS, b.Arch, strings.Join(b.Features, "\n"))
	return err
}
