// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		return m.Run() // several processes at once, and none of them runs the program
	}
	dir, err := os.MkdirTemp("", "hfreduce-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "hfreduce")
	build := exec.Command("go", "build", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// program prepares a run of the program without a launcher's environment. If it takes too long it is made to print the
// stacks of its ranks.
func program(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		for _, prefix := range []string{"HFREDUCE_", "NCCL_", "OMPI_", "PMI", "SLURM_"} {
			if strings.HasPrefix(name, prefix) {
				return name != "SLURM_CONF"
			}
		}
		return name == "RANK" || name == "WORLD_SIZE"
	})
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// execute runs the program and returns its exit code and output.
func execute(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := program(t, env, args...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), complaints.String()
}

// rightRow is a line of the table without wrong elements.
var rightRow = regexp.MustCompile(`(?m)^ +(\d+) +(\d+) +(\w+) +(\w+) +(-?\d+)((?: +[\d.e+-]+){3}) +0((?: +[\d.e+-]+){3}) +0$`)

// anyRow is any line of the table.
var anyRow = regexp.MustCompile(`(?m)^ +\d+ +\d+ .*$`)

// checkTable checks that a table has so many lines and nothing wrong in them.
func checkTable(t *testing.T, table string, rows int) {
	t.Helper()
	right, all := len(rightRow.FindAllString(table, -1)), len(anyRow.FindAllString(table, -1))
	if right != rows || all != rows || !strings.Contains(table, "# Out of bounds values : 0 OK") {
		t.Errorf("%d lines of %d are right, want %d:\n%s", right, all, rows, table)
	}
}

func TestBenchAlone(t *testing.T) {
	code, stdout, stderr := execute(t, nil, "bench", "-b", "8", "-e", "64K", "-f", "8", "-n", "3")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	checkTable(t, stdout, 5)
	if n := strings.Count(stdout, "#  Rank "); n != 2 {
		t.Errorf("%d ranks by default, want 2:\n%s", n, stdout)
	}
}

// kernelRow is a line of bench reduce, with its traffic and ratio.
var kernelRow = regexp.MustCompile(`(?m)^ +65536 +float +sum +2 +\w+ +\w+ +plain +([\d.]+) +([\d.]+) +N/A$`)

func TestBenchReduce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kernels.json")
	env := []string{"RANK=0", "WORLD_SIZE=2"} // a launcher's, which do not matter: there are no ranks
	code, stdout, stderr := execute(t, env, "bench", "reduce", "--size", "64K", "--rounds", "1", "--dtype", "float", "--sources", "2", "-J", file)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	rows := kernelRow.FindAllStringSubmatch(stdout, -1)
	for _, row := range rows {
		if strings.Trim(row[1], "0.") == "" || strings.Trim(row[2], "0.") == "" {
			t.Errorf("nothing measured: %s", row[0])
		}
	}
	text, err := os.ReadFile(file)
	var document struct{ Results []any }
	if err = errors.Join(err, json.Unmarshal(text, &document)); err != nil || len(rows) == 0 || len(document.Results) != len(rows) {
		t.Errorf("%d rows, %d results, %v:\n%s", len(rows), len(document.Results), err, stdout)
	}
}

// All types and operators are right on even and uneven layouts; one size of each.
func TestBenchEverything(t *testing.T) {
	for _, c := range []struct {
		args string
		rows int
	}{
		{"all -np 8 --nodes 4 -b 4K -e 4K", 12*(3*6+2) + 1},
		{"allreduce -np3 --nodes 3 -b 4 -e 4", 12 * 6},
		{"reduce_scatter all_gather -np 5 --nodes 2 -b 1K -e 1K", 12 * (6 + 1)},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := append([]string{"bench"}, strings.Fields(c.args+" -d all -o all -r 1 -c 1 -n 1 -w 0")...)
			code, stdout, stderr := execute(t, nil, args...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d, %s", code, stderr)
			}
			checkTable(t, stdout, c.rows)
		})
	}
}

func TestBenchRanksAsThreads(t *testing.T) {
	code, stdout, stderr := execute(t, nil, "bench", "-np", "2", "--nodes", "2", "-t", "4", "-b", "1K", "-e", "1K")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	checkTable(t, stdout, 1)
	if n := strings.Count(stdout, "#  Rank "); n != 8 {
		t.Errorf("%d ranks, want 8:\n%s", n, stdout)
	}
}

func TestBenchGroups(t *testing.T) {
	code, stdout, stderr := execute(t, []string{"NCCL_TESTS_SPLIT=MOD 2"}, "bench", "-np", "4", "-b", "1K", "-e", "1K")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	checkTable(t, stdout, 1)
	if !strings.Contains(stdout, "#  Rank  1 Group  1") {
		t.Errorf("no groups:\n%s", stdout)
	}
}

func TestBenchByNCCLTestsName(t *testing.T) {
	link := filepath.Join(t.TempDir(), "all_gather_perf")
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, nil, "-np", "2", "-b", "64", "-e", "64")
	cmd.Path = link
	cmd.Args[0] = link
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "# Collective test starting: all_gather_perf") {
		t.Fatalf("%v\n%s", err, out)
	}
	checkTable(t, string(out), 1)
}

// A bandwidth that is not reached fails the run, with the table complete.
func TestBenchTooSlow(t *testing.T) {
	code, stdout, stderr := execute(t, []string{"NCCL_TESTS_MIN_BW=1e6"}, "bench", "-np", "3", "-b", "64", "-e", "64")
	if code != 1 || stderr != "" || !strings.Contains(stdout, " FAILED\n") || !strings.Contains(stdout, "# Collective test concluded") {
		t.Errorf("exit code %d, %s\n%s", code, stderr, stdout)
	}
}

// document is what scripts read of the JSON document.
type document struct {
	Args    []string
	Config  struct{ Iterations int }
	Results []struct {
		Size    int64
		Root    string
		InPlace struct {
			Time   float64
			Nwrong float64
		} `json:"in_place"`
	}
	OutOfBounds struct{ Okay string } `json:"out_of_bounds"`
}

// freePort returns a port that nobody listens on now, nor on the next one, which ranks under torchrun prefer to its own. Both lie below
// those that the system gives to whoever asks for any, such as the ranks themselves.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(12000)
		if free(port) && free(port+1) {
			return port
		}
	}
	t.Fatal("100 pairs of ports in a row are in use")
	return 0
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// Under somebody else's launcher each process is one rank; a harness drives it like this.
func TestBenchUnderTorchrunsEnvironment(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "*.json") // empty, as mktemp leaves it
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	port := freePort(t)
	var wg sync.WaitGroup
	for rank := range 2 {
		env := []string{fmt.Sprintf("RANK=%d", rank), "WORLD_SIZE=2", fmt.Sprintf("LOCAL_RANK=%d", rank), "LOCAL_WORLD_SIZE=2",
			"MASTER_ADDR=127.0.0.1", fmt.Sprintf("MASTER_PORT=%d", port)}
		args := strings.Fields("bench -b 1024 -e 4096 -f 2 -n 5 -w 2 -N 3 -c 1 -d float -o sum")
		if rank == 0 {
			args = append(args, "-J", file.Name())
		}
		wg.Go(func() {
			if code, _, stderr := execute(t, env, args...); code != 0 || stderr != "" {
				t.Errorf("rank %d: exit code %d, %s", rank, code, stderr)
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(d.Results) != 9 || d.Results[3].Size != 1024 || d.Results[0].InPlace.Time <= 0 || d.Results[8].InPlace.Nwrong != 0 ||
		d.Results[0].Root != "    -1" || d.OutOfBounds.Okay != "true" || d.Config.Iterations != 5 {
		t.Errorf("%+v", d)
	}
}

func TestLaunchEndToEnd(t *testing.T) {
	code, stdout, stderr := execute(t, nil, "launch", "-n", "3", "--nodes", "2", "--prefix", "--", "sh", "-c", "echo $LOCAL_RANK of $LOCAL_WORLD_SIZE on $HFREDUCE_NODE")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	slices.Sort(lines)
	if want := []string{"[0] 0 of 2 on node0", "[1] 1 of 2 on node0", "[2] 0 of 1 on node1"}; code != 0 || !slices.Equal(lines, want) {
		t.Errorf("exit code %d, %q, %s", code, lines, stderr)
	}
	if code, stdout, _ := execute(t, nil, "launch", "-np", "1", "echo", "-np", "4", "-all", "--", "-np2"); code != 0 || stdout != "-np 4 -all -- -np2\n" {
		t.Errorf("without -- before the program: exit code %d; its arguments are %q", code, stdout)
	}
	if code, _, stderr := execute(t, nil, "launch", "-np", "2", "--", "sh", "-c", "exit 9"); code != 9 || !strings.Contains(stderr, "exited with code 9") {
		t.Errorf("exit code %d, want 9, and a word about it: %q", code, stderr)
	}
	if code, _, stderr := execute(t, nil, "launch", "-n", "1", "--", "./no-such-program"); code != 3 || !strings.Contains(stderr, "no-such-program") {
		t.Errorf("exit code %d, want 3: %q", code, stderr)
	}
}

// The benchmark is a program like any other to launch.
func TestBenchUnderLaunch(t *testing.T) {
	code, stdout, stderr := execute(t, nil, "launch", "-n", "2", "--", binary, "bench", "-b", "64", "-e", "64")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	checkTable(t, stdout, 1)
}

func TestVersion(t *testing.T) {
	code, stdout, _ := execute(t, nil, "version")
	if code != 0 || !strings.HasPrefix(stdout, "hfreduce ") || !strings.Contains(stdout, "kernel ") {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	code, stdout, _ = execute(t, nil, "version", "--json")
	var b build
	if err := json.Unmarshal([]byte(stdout), &b); code != 0 || err != nil || b.Version == "" || b.Go == "" || len(b.Features) == 0 {
		t.Errorf("exit code %d, %v, %q", code, err, stdout)
	}
}

// TestBenchTune measures all settings once and reads the advice.
func TestBenchTune(t *testing.T) {
	code, stdout, stderr := execute(t, nil, "bench", "tune", "--rounds", "1", "-e", "256K")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{"one pass or pipeline", "chunk x slots", "\nHFREDUCE_CHUNK_BYTES=", "\nHFREDUCE_SLOTS=", "leave it unset where there are more", "\nHFREDUCE_ONE_PASS_BYTES="} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in\n%s", want, stdout)
		}
	}
	if code, _, stderr := execute(t, []string{"HFREDUCE_SLOTS=0"}, "bench", "tune", "--rounds", "1"); code != 2 || !strings.Contains(stderr, "HFREDUCE_SLOTS") {
		t.Errorf("a bad setting for the ranks: exit code %d: %s", code, stderr)
	}
}

// linkRow is a line of bench link.
var linkRow = regexp.MustCompile(`(?m)^ +(\d+) +(\d+) +\S+ +\S+ +tcp +(\d+)((?: +\d+\.\d+)+) +0$`)

func TestBenchLink(t *testing.T) {
	for args, rows := range map[string]int{
		"-np 2 --nodes 2 -b 4K -e 1M -n 20":          5,
		"both -np 2 -b 64K -e 64K -n 20":             1,
		"latency -np 3 -n 50 -w 5 --pairs all":       3,
		"latency -np 4 --nodes 3 -b 1 -e 4 -n 50":    3 * 2,
		"-np 2 --transport tcp -b 8 -e 8 --window 1": 1,
	} {
		t.Run(args, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "links.json")
			code, stdout, stderr := execute(t, nil, append([]string{"bench", "link", "-J", file}, strings.Fields(args)...)...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d, %s", code, stderr)
			}
			found := linkRow.FindAllStringSubmatch(stdout, -1)
			for _, row := range found {
				if row[1] == row[2] || strings.Trim(row[4], " 0.") == "" {
					t.Errorf("not plausible: %s", row[0])
				}
			}
			text, err := os.ReadFile(file)
			var document struct{ Results []any }
			if err = errors.Join(err, json.Unmarshal(text, &document)); err != nil || len(found) != rows || len(document.Results) != rows {
				t.Errorf("%d rows and %d results, want %d, %v:\n%s", len(found), len(document.Results), rows, err, stdout)
			}
		})
	}
}

// Under somebody else's launcher only rank 0 reports.
func TestBenchLinkUnderTorchrunsEnvironment(t *testing.T) {
	port := freePort(t)
	var wg sync.WaitGroup
	for rank := range 2 {
		env := []string{fmt.Sprintf("RANK=%d", rank), "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", fmt.Sprintf("MASTER_PORT=%d", port),
			fmt.Sprintf("HFREDUCE_NODE=node%d", rank), "HFREDUCE_TRANSPORT=tcp"}
		wg.Go(func() {
			code, stdout, stderr := execute(t, env, "bench", "link", "latency", "-n", "50")
			if code != 0 || stderr != "" || len(linkRow.FindAllString(stdout, -1)) != 1-rank {
				t.Errorf("rank %d: exit code %d, %s\n%s", rank, code, stderr, stdout)
			}
		})
	}
	wg.Wait()
}

func TestBenchLinkMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"--nodes 1":                        "the 2 ranks are on one node",
		"rtt":                              "hfreduce bench link --help",
		"-b 64 -e 8":                       "-b 64 is above -e 8",
		"-n 0":                             "-n 0: give 1 to",
		"--pairs some":                     "--pairs must be one of",
		"--transport pigeons -b 8 -e 8":    "--transport must be one of",
		"-J links.csv":                     "only JSON",
		"--window 300 -b 8 -e 8 -f 4 -w 5": "--window 300: give 1 to 256",
	} {
		if code, _, stderr := execute(t, nil, append([]string{"bench", "link"}, strings.Fields(args)...)...); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, want 2 and %q: %s", args, code, want, stderr)
		}
	}
}
