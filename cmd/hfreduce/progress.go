// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"github.com/hfreduce/hfreduce/bench"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// newProgress returns a bar on a terminal, and nothing to see anywhere else.
func newProgress(f *os.File) bench.Progress {
	if !term.IsTerminal(int(f.Fd())) {
		return noProgress{}
	}
	return &bar{file: f}
}

type noProgress struct{}

func (noProgress) Step(int, int, string) {}
func (noProgress) Hide()                 {}

// bar is a progress bar that is made anew whenever the number of steps changes.
type bar struct {
	file  *os.File
	total int
	bar   *progressbar.ProgressBar
}

// Step implements bench.Progress.
func (b *bar) Step(done, total int, what string) {
	if b.bar == nil || total != b.total {
		limit := total
		if total == 0 {
			limit = -1 // a spinner
		}
		b.bar = progressbar.NewOptions(limit, progressbar.OptionSetWriter(b.file), progressbar.OptionFullWidth(),
			progressbar.OptionClearOnFinish(), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(false))
		b.total = total
	}
	b.bar.Describe(what)
	_ = b.bar.Set(done)
}

// Hide implements bench.Progress.
func (b *bar) Hide() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}
