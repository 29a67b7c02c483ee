// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hfreduce/hfreduce/cmd/hfreduce/internal/launch"
	"github.com/hfreduce/hfreduce/cmd/hfreduce/internal/tune"
	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/internal/cpus"
)

// tuneCommand looks for the settings that suit this machine. The library's defaults are what it found on the machine of
// docs/performance.md.
type tuneCommand struct {
	NP      int    `name:"np" default:"2" help:"Ranks to start (also -np)."`
	Nodes   int    `default:"1" help:"Virtual nodes to divide them into."`
	Largest size   `short:"e" default:"64M" help:"Largest size, with K, M or G."`
	Rounds  int    `default:"5" help:"How often everything is measured; medians count."`
	Bind    string `default:"core" enum:"core,numa,none" help:"Bind ranks, as bench does."`
}

// Run measures, prints tables and, last, the settings as environment variables.
func (c *tuneCommand) Run(s *system) error {
	if c.Rounds < 1 {
		return usage("bench tune: --rounds %d: give at least 1", c.Rounds)
	}
	job := launch.Options{Ranks: c.NP, Nodes: c.Nodes, Bind: cpus.Binding(c.Bind), Command: []string{programName}}
	if err := job.Validate(); err != nil {
		return usage("bench tune: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return &exit{codeBroken, fmt.Errorf("bench tune: find this program to start it: %w", err)}
	}
	folder, err := os.MkdirTemp("", "hfreduce-tune-")
	if err != nil {
		return &exit{codeBroken, fmt.Errorf("bench tune: %w", err)}
	}
	defer os.RemoveAll(folder)
	progress := newProgress(s.stderr)
	defer progress.Hide()
	answer := func(q tune.Question) (tune.Answer, error) {
		a, err := q.Ask(c.Rounds, func(env []string, sizes []int64) (map[int64]float64, error) {
			return c.measure(s, self, folder, env, sizes)
		}, progress.Step)
		progress.Hide()
		if err == nil {
			_, err = fmt.Fprintln(s.stdout, a.Table())
		}
		return a, err
	}
	fmt.Fprintf(s.stdout, "# hfreduce version %s, ranks: %d, nodes: %d, float sum, out of place, medians of %d rounds\n", hfreduce.Version(), c.NP, c.Nodes, c.Rounds)
	settings, err := c.ask(answer)
	if err != nil {
		return tuneError(err)
	}
	_, err = fmt.Fprint(s.stdout, settings)
	return err
}

// ask asks what there is to ask and returns the settings that follow, a line each.
func (c *tuneCommand) ask(answer func(tune.Question) (tune.Answer, error)) (settings string, err error) {
	if c.Nodes == 1 { // between nodes the layout alone decides
		a, err := answer(tune.OnePassQuestion())
		if err != nil {
			return "", err
		}
		settings = fmt.Sprintf("%s=%d   # default %d\n", tune.OnePass, a.Threshold(tune.Always, tune.Slack), hfreduce.DefaultOnePassBytes)
	}
	a, err := answer(tune.PipelineQuestion(int64(c.Largest)))
	if err != nil {
		return "", err
	}
	best, mean := a.Best()
	above := fmt.Sprintf("on the mean %.0f%% above the best of each size", 100*(mean-1))
	chunk, slots := a.Choices[best].Env[0], a.Choices[best].Env[1]
	settings += fmt.Sprintf("%s   # default %d; %s\n", chunk, hfreduce.DefaultChunkBytes, above)
	settings += fmt.Sprintf("%s   # default %d on so many nodes; leave it unset where there are more, which need more slots\n", slots, hfreduce.DefaultSlots(max(1, c.Nodes)))
	return settings, nil
}

func tuneError(err error) error {
	if e := (*exit)(nil); errors.As(err, &e) {
		return &exit{e.code, fmt.Errorf("bench tune: %w", err)}
	}
	return &exit{codeBroken, fmt.Errorf("bench tune: %w", err)}
}

// measure runs the benchmark as a job of its own.
func (c *tuneCommand) measure(s *system, self, folder string, env []string, sizes []int64) (map[int64]float64, error) {
	name := filepath.Join(folder, "times.json")
	if err := os.WriteFile(name, nil, 0o600); err != nil { // emptied, it is taken again
		return nil, err
	}
	factor := int64(2)
	if len(sizes) > 1 {
		factor = sizes[1] / sizes[0]
	}
	var output bytes.Buffer
	o := launch.Options{
		Ranks: c.NP, Nodes: c.Nodes, Bind: cpus.Binding(c.Bind), Stdout: &output, Stderr: &output, Grace: launchGrace,
		Env: append(append(slices.Clip(s.env), env...), ownLauncher+"=1"), Explained: func(code int) bool { return code <= codeLost },
		Command: []string{self, "bench", "-b", fmt.Sprint(sizes[0]), "-e", fmt.Sprint(sizes[len(sizes)-1]), "-f", fmt.Sprint(factor),
			"-n", fmt.Sprint(tuneIters(sizes[len(sizes)-1])), "-c", "0", "-J", name},
	}
	if err := runJob(o); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, bytes.TrimSpace(output.Bytes()))
	}
	return readTimes(name)
}

// tuneIters keeps a measurement within about a second.
func tuneIters(largest int64) int {
	if largest <= 1<<20 {
		return 500
	}
	return 20
}

// readTimes reads the time of a call at each size, in seconds, from a document of the benchmark.
func readTimes(name string) (map[int64]float64, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var document struct {
		Results []struct {
			Size       int64 `json:"size"`
			OutOfPlace struct {
				Time float64 `json:"time"` // in microseconds
			} `json:"out_of_place"`
		} `json:"results"`
	}
	if err := json.Unmarshal(content, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	times := map[int64]float64{}
	for _, r := range document.Results {
		times[r.Size] = r.OutOfPlace.Time * float64(time.Microsecond) / float64(time.Second)
	}
	return times, nil
}
