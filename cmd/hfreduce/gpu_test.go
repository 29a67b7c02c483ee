// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/internal/fakecuda"
	"github.com/hfreduce/hfreduce/internal/testreq"
)

// onGPUs returns the environment in which the program finds GPUs, fake ones unless the tests shall use real ones. Small chunks
// let small buffers go through the whole ring.
func onGPUs(t *testing.T) []string {
	t.Helper()
	fakecuda.Need(t)
	if _, stdout, _ := execute(t, nil, "version"); strings.Contains(stdout, "\ncuda built without cgo") {
		testreq.Missing(t, "cuda", "built without cgo")
	}
	env := []string{"HFREDUCE_CHUNK_BYTES=65536", "HFREDUCE_DEVICE_CHUNK_BYTES=65536"}
	if fakecuda.Real() {
		return env
	}
	path, err := fakecuda.Build()
	if err != nil {
		t.Fatal(err)
	}
	return append(env, "HFREDUCE_CUDART="+path, "HFREDUCE_LIBCUDA="+path)
}

var (
	deviceLine = regexp.MustCompile(`(?m)^#  Rank +\d+ Group +\d+ Pid +\d+ on +\S+ device +(\d+) \[[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\] Fake GPU$`)
	limitsLine = regexp.MustCompile(`(?m)^# copy limits, 4 ranks on \d GPUs?: D2H \d+\.\d GB/s, H2D \d+\.\d GB/s, both 2 x \d+\.\d GB/s; per rank both ways \d+\.\d GB/s$`)
	phasesLine = regexp.MustCompile(`(?m)^# +\d+ +float +(sum|none) +-?\d+ +(out|in)( +[\d.e+-]+){11}$`)
)

// GPU memory: as processes and in one process, on one GPU that ranks share.
func TestBenchOnGPUs(t *testing.T) {
	env := onGPUs(t)
	for args, rows := range map[string]int{
		"all -np 4 --nodes 2 -g 1 --phase -b 1K -e 300K -f 300": 5*2 + 1,
		"-np 1 -t 4 --gpus 1 -b 1M -e 1M -m 2":                  1,
	} {
		t.Run(args, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "gpu.json")
			code, stdout, stderr := execute(t, env, append([]string{"bench", "-n", "3", "-J", file}, strings.Fields(args)...)...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d, %s\n%s", code, stderr, stdout)
			}
			checkTable(t, stdout, rows)
			if len(limitsLine.FindAllString(stdout, -1)) == 0 {
				t.Errorf("no limits of the copies:\n%s", stdout)
			}
			phases := 0
			if strings.Contains(args, "--phase") {
				phases = 2 * (rows - 1)
			}
			if n := len(phasesLine.FindAllString(stdout, -1)); n != phases {
				t.Errorf("%d lines of phases, want %d:\n%s", n, phases, stdout)
			}
			checkGPUDocument(t, file, phases)
		})
	}
}

// checkGPUDocument checks what is not in a document without GPUs.
func checkGPUDocument(t *testing.T, file string, phases int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		CopyLimits struct {
			Ranks, GPUs int
			Both        float64 `json:"both_each_way_gbps"`
		} `json:"copy_limits"`
		Results []struct {
			Out map[string]float64 `json:"out_of_place_phases"`
			In  map[string]float64 `json:"in_place_phases"`
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	found := 0
	for _, r := range d.Results {
		for _, p := range []map[string]float64{r.Out, r.In} {
			if p["call_max_us"] > 0 && p["call_mean_us"] > 0 && len(p) == 10 {
				found++
			}
		}
	}
	if d.CopyLimits.Ranks != 4 || d.CopyLimits.GPUs < 1 || d.CopyLimits.Both <= 0 || found != phases {
		t.Errorf("%+v, %d phases, want %d", d.CopyLimits, found, phases)
	}
}

// The ranks of each node use its first GPUs in turn.
func TestBenchSharesGPUs(t *testing.T) {
	env := onGPUs(t)
	fakecuda.NeedFake(t) // which has as many GPUs as one likes
	code, stdout, stderr := execute(t, append(env, "FAKECUDA_DEVICES=3"), "bench", "-np", "5", "--nodes", "2", "-g", "2", "-b", "64", "-e", "64")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	checkTable(t, stdout, 1)
	var devices []string
	for _, found := range deviceLine.FindAllStringSubmatch(stdout, -1) {
		devices = append(devices, found[1])
	}
	if want := []string{"0", "1", "0", "0", "1"}; !slices.Equal(devices, want) || !strings.Contains(stdout, "device  1 [0000:2b:00] Fake GPU\n") || !strings.Contains(stdout, "5 ranks on 2 GPUs") {
		t.Errorf("devices %v, want %v:\n%s", devices, want, stdout)
	}
}

// TestGPUsAsInNCCLTests: -g alone starts a rank for each GPU, and processes of a launcher that leave GPUs idle hear of it.
func TestGPUsAsInNCCLTests(t *testing.T) {
	env := append(onGPUs(t), "FAKECUDA_DEVICES=3")
	fakecuda.NeedFake(t)
	if code, stdout, stderr := execute(t, env, "bench", "-g", "3", "-b", "64", "-e", "64"); code != 0 || stderr != "" || !strings.Contains(stdout, "3 ranks on 3 GPUs") {
		t.Errorf("-g 3: exit code %d, %s%s", code, stderr, stdout)
	}
	if code, stdout, stderr := execute(t, env, "bench", "-g", "3", "-t", "2", "-b", "64", "-e", "64"); code != 0 || stderr != "" || !strings.Contains(stdout, "4 ranks on 3 GPUs") {
		t.Errorf("-g 3 -t 2: exit code %d, %s%s", code, stderr, stdout)
	}
	env = append(env, "HFREDUCE_RANK=0", "HFREDUCE_WORLD_SIZE=1", fmt.Sprintf("HFREDUCE_RENDEZVOUS=127.0.0.1:%d", freePort(t)))
	if code, _, stderr := execute(t, env, "bench", "-t", "2", "-g", "1", "-b", "64", "-e", "64"); code != 0 || !strings.Contains(stderr, "the 2 ranks of this node share 1 of its 3 GPUs") {
		t.Errorf("-g 1: exit code %d, %s", code, stderr)
	}
}

func TestBenchWithoutGPUs(t *testing.T) {
	env := onGPUs(t)
	fake := append(slices.Clone(env), "FAKECUDA_DEVICES=1")
	none := []string{"HFREDUCE_CUDART=/nowhere/libcudart.so"}
	for _, c := range []struct {
		name string
		env  []string
		args string
		code int
		want string
	}{
		{"no library", none, "-g 1", codeBroken, "bench: -g 1 needs CUDA: cuda: not supported: HFREDUCE_CUDART: "},
		{"no device", append(slices.Clone(env), "FAKECUDA_DEVICES=0"), "-g 1", codeBroken, "bench: -g 1 needs CUDA: cuda: "},
		{"too many", fake, "-g 2", codeUsage, "bench: -g 2: this process sees 1 GPU; give at most -g 1, ranks may share a GPU"},
		{"negative", fake, "-g -1", codeUsage, "-g -1 is negative"},
		{"phases of nothing", fake, "--phase", codeUsage, "--phase tells of calls on GPU memory; add -g 1 or more"},
		{"registered", fake, "-g 1 --registered", codeUsage, "--registered is about host memory"},
		{"launched", append(slices.Clone(none), "RANK=0", "WORLD_SIZE=2"), "-g 1", codeBroken, "/nowhere/libcudart.so"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "no device" || c.name == "too many" {
				fakecuda.NeedFake(t) // a matter of its settings
			}
			code, stdout, stderr := execute(t, c.env, append([]string{"bench"}, strings.Fields(c.args)...)...)
			if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, want %d and one line with %q: %s%s", code, c.code, c.want, stderr, stdout)
			}
		})
	}
}

// The version names the CUDA that is there, or what is missing of it.
func TestVersionTellsOfCUDA(t *testing.T) {
	env := onGPUs(t)
	for _, c := range []struct {
		env  []string
		want string
	}{
		{env, `\ncuda lib\S+ \(\d+\.\d+\), driver \d+\.\d+, \d+ devices?, `},
		{[]string{"HFREDUCE_CUDART=/nowhere/libcudart.so"}, `\ncuda HFREDUCE_CUDART: .*/nowhere/libcudart.so`},
		{append(slices.Clone(env), "HFREDUCE_LIBCUDA=/nowhere/libcuda.so.1"), `\ncuda no NVIDIA driver: .*/nowhere/libcuda.so.1`},
	} {
		code, stdout, stderr := execute(t, c.env, "version")
		if code != 0 || stderr != "" || !regexp.MustCompile(c.want).MatchString(stdout) {
			t.Errorf("%v: exit code %d, %s, want %s:\n%s", c.env, code, stderr, c.want, stdout)
		}
	}
}
