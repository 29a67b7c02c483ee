// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// roleVariable makes the test binary play a program under test instead of running tests.
const roleVariable = "LAUNCH_TEST_ROLE"

// quickExit keeps the race detector from lingering at the end of each process.
const quickExit = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	goleak.VerifyTestMain(m)
}

// forever waits for a signal that ends the process, in the system: the runtime would take goroutines that all wait for
// each other for a deadlock.
func forever() {
	for {
		_, _ = unix.Poll(nil, -1)
	}
}

// play is a rank, or a launcher of its own.
func play(role string) int {
	rank, _ := strconv.Atoi(os.Getenv("RANK"))
	name, argument, _ := strings.Cut(role, " ")
	switch name {
	case "env":
		for _, v := range os.Environ() {
			fmt.Printf("%d %s\n", rank, v)
		}
	case "fail": // rank `argument` fails, the others wait for ever
		if strconv.Itoa(rank) == argument {
			return 7
		}
		forever()
	case "together": // rank `argument` fails at once, the others end well a little later
		if strconv.Itoa(rank) == argument {
			return 7
		}
		_, _ = unix.Poll(nil, 100)
		fmt.Println("good end")
	case "suicide":
		if rank == 1 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		forever()
	case "spare": // ranks up to `argument` are killed, the others end well
		if last, _ := strconv.Atoi(argument); rank <= last {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			forever()
		}
		fmt.Println("good end")
	case "lag": // rank 0 ends well, the others wait for ever
		if rank > 0 {
			forever()
		}
	case "stop": // rank 1 opens a pipe and stops itself, rank 0 ends well once somebody has opened another one
		if _, err := os.OpenFile(filepath.Join(argument, strconv.Itoa(rank)), os.O_WRONLY, 0); err != nil {
			return 7
		}
		if rank > 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		}
	case "stubborn": // ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		if rank == 0 {
			bufio.NewReader(os.Stdin).ReadString('\n') // there is none
			return 3
		}
		forever()
	case "signals": // tells which signal came
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1)
		fmt.Println("ready")
		fmt.Printf("rank %d got %v\n", rank, <-c)
	case "write":
		for i := range 200 {
			fmt.Printf("rank %d ", rank)
			fmt.Printf("line %d\n", i)
		}
		fmt.Fprint(os.Stderr, "no newline")
	case "child": // leaves a child behind
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			return 1
		}
		fmt.Println(cmd.Process.Pid)
	case "processors":
		status, _ := os.ReadFile("/proc/self/status")
		_, list, _ := strings.Cut(string(status), "Cpus_allowed_list:")
		fmt.Println(rank, strings.Fields(list)[0])
	case "launcher":
		launchTwo()
	case "number":
		fmt.Println(os.Getpid())
		forever()
	}
	return 0
}

// launchTwo runs two ranks that tell their number and wait for ever.
func launchTwo() {
	code, err := Run(Options{
		Ranks: 2, Nodes: 1, Command: []string{os.Args[0]}, Env: append(os.Environ(), roleVariable+"=number"),
		Stdout: os.Stdout, Stderr: os.Stderr, Grace: time.Second,
	})
	fmt.Println(code, err)
}

// roleOf returns options that make n ranks play a role, and where their output goes.
func roleOf(n int, role string) (Options, *bytes.Buffer, *bytes.Buffer) {
	stdout, stderr := &bytes.Buffer{}, &bytes.Buffer{}
	return Options{
		Ranks: n, Nodes: 1, Command: []string{os.Args[0]}, Env: append(os.Environ(), roleVariable+"="+role, quickExit),
		Stdout: stdout, Stderr: stderr, Grace: time.Minute,
	}, stdout, stderr
}

// TestRanksWriteToTheTerminal: with `stty tostop` a process group in the background is stopped when it writes, unless it ignores
// the signal for that.
func TestRanksWriteToTheTerminal(t *testing.T) {
	o, _, _ := roleOf(1, "")
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	defer signal.Reset(syscall.SIGTTOU)
	o.Command, o.Output, o.Stdout, o.Stderr = []string{"grep", "SigIgn", "/proc/self/status"}, Direct, out, out
	code := run(t, o)
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	_, digits, _ := strings.Cut(strings.TrimSpace(string(text)), "\t")
	if mask, err := strconv.ParseUint(digits, 16, 64); code != 0 || err != nil || mask>>(syscall.SIGTTOU-1)&1 == 0 {
		t.Errorf("exit code %d, ignored signals %s", code, text)
	}
}

func run(t *testing.T, o Options) int {
	t.Helper()
	code, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// The exit code of the rank that failed first is the job's, and the others are ended.
func TestFailureEndsTheJob(t *testing.T) {
	o, _, stderr := roleOf(3, "fail 2")
	if code := run(t, o); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	if text := stderr.String(); !strings.Contains(text, "rank 2") || !strings.Contains(text, "exited with code 7") {
		t.Errorf("stderr %q does not tell what happened", text)
	}
}

// Ranks that explain their failure end by themselves where they can, and are ended where they cannot.
func TestExplainedFailure(t *testing.T) {
	o, stdout, stderr := roleOf(3, "together 1")
	o.Explained = func(code int) bool { return code == 7 }
	if code := run(t, o); code != 7 || stderr.Len() > 0 || strings.Count(stdout.String(), "good end") != 2 {
		t.Errorf("exit code %d, want 7, stdout %q, stderr %q", code, stdout, stderr)
	}
	o, _, stderr = roleOf(2, "fail 0")
	o.Explained = func(int) bool { return true }
	if code := run(t, o); code != 7 || stderr.Len() > 0 {
		t.Errorf("exit code %d, want 7, stderr %q", code, stderr)
	}
}

// Ranks that can be dispensed with leave the others alone; one must end well.
func TestDispensableRanks(t *testing.T) {
	for last, want := range []int{0, 0, 128 + 9} {
		o, stdout, stderr := roleOf(3, "spare "+strconv.Itoa(last))
		o.Dispensable, o.Lag = func(code int) bool { return code == 128+9 }, time.Minute
		if code := run(t, o); code != want || strings.Count(stdout.String(), "good end") != 2-last {
			t.Errorf("ranks to %d are killed: exit code %d, want %d, stdout %q", last, code, want, stdout)
		}
		if strings.Count(stderr.String(), "was ended by signal 9 (killed); the others go on") != last+1 {
			t.Errorf("ranks to %d are killed: stderr %q", last, stderr)
		}
	}
	o, _, stderr := roleOf(3, "fail 1")
	o.Dispensable = func(code int) bool { return code == 128+9 }
	if code := run(t, o); code != 7 || !strings.Contains(stderr.String(), "ending the 2 others") {
		t.Errorf("exit code %d, want 7, stderr %q", code, stderr)
	}
}

// Where ranks can be dispensed with, those that lag behind one that ended well are ended: one that was stopped is no failure,
// one that hangs is.
func TestLaggingRanks(t *testing.T) {
	killed := func(code int) bool { return code == 128+9 }
	o, _, stderr := roleOf(2, "lag")
	o.Dispensable = killed
	if code := run(t, o); code != 128+15 {
		t.Errorf("waiting: exit code %d, want that of SIGTERM, stderr %q", code, stderr)
	}

	pipes := t.TempDir()
	for rank := range 2 {
		if err := unix.Mkfifo(filepath.Join(pipes, strconv.Itoa(rank)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		open := func(rank int) { // returns when the rank has opened it, too
			if r, err := os.Open(filepath.Join(pipes, strconv.Itoa(rank))); err == nil {
				r.Close()
			}
		}
		open(1)
		for unix.Waitid(unix.P_ALL, 0, nil, unix.WSTOPPED|unix.WNOWAIT, nil) == unix.EINTR {
		}
		open(0)
	}()
	o, _, stderr = roleOf(2, "stop "+pipes)
	o.Dispensable, o.Grace = killed, 10*time.Millisecond
	if code := run(t, o); code != 0 {
		t.Errorf("stopped: exit code %d, want 0, stderr %q", code, stderr)
	}
}

func TestRankEndedBySignal(t *testing.T) {
	o, _, stderr := roleOf(2, "suicide")
	if code := run(t, o); code != 128+9 {
		t.Errorf("exit code %d, want 137", code)
	}
	if !strings.Contains(stderr.String(), "rank 1") || !strings.Contains(stderr.String(), "signal 9") {
		t.Errorf("stderr %q", stderr)
	}
}

// A rank that does not end on SIGTERM is killed after the grace; the exit code stays that of the first failure.
func TestStubbornRanksAreKilled(t *testing.T) {
	o, _, _ := roleOf(2, "stubborn")
	o.Grace = 0
	if code := run(t, o); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
}

// pipe returns a writer for Options.Stdout and a reader of its lines.
func pipe(t *testing.T) (io.Writer, *bufio.Reader) {
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	return w, bufio.NewReader(r)
}

func TestSignalsReachAllRanks(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1} {
		o, _, _ := roleOf(2, "signals")
		signals := make(chan Signal, 1)
		o.Signals = signals
		var lines *bufio.Reader
		o.Stdout, lines = pipe(t)
		codes := make(chan int, 1)
		go func() {
			code, err := Run(o)
			if err != nil {
				code = -1
			}
			codes <- code
		}()
		var got []string
		for i := range 4 {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, line); i == 1 { // both are ready
				signals <- s
			}
		}
		slices.Sort(got[2:])
		want := []string{"ready\n", "ready\n", fmt.Sprintf("rank 0 got %v\n", s), fmt.Sprintf("rank 1 got %v\n", s)}
		if !slices.Equal(got, want) {
			t.Errorf("%v: output %q", s, got)
		}
		if code := <-codes; code != 0 {
			t.Errorf("%v: exit code %d, want 0, as the ranks ended well", s, code)
		}
	}
}

func TestSecondSignalKills(t *testing.T) {
	o, _, _ := roleOf(1, "stubborn")
	o.Env = append(o.Env, "RANK=1")
	o.Command = []string{"env", "RANK=1", os.Args[0]} // the rank that never ends
	signals := make(chan Signal)
	o.Signals = signals
	var lines *bufio.Reader
	o.Stdout, lines = pipe(t)
	go func() {
		_, _ = lines.ReadString('\n')
		signals <- syscall.SIGTERM
		signals <- syscall.SIGTERM
	}()
	if code := run(t, o); code != 128+9 {
		t.Errorf("exit code %d, want 137", code)
	}
}

// gone waits until a process has ended, whether or not anybody has buried it.
func gone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	for err == unix.EINTR {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	}
	if n != 1 || err != nil {
		t.Errorf("process %d is still there (%v)", pid, err)
	}
}

func TestChildrenOfRanksGoWithThem(t *testing.T) {
	o, stdout, _ := roleOf(1, "child")
	if code := run(t, o); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(stdout.String()))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
}

// SIGKILL of the launcher leaves no rank behind.
func TestNoOrphansAfterSIGKILL(t *testing.T) {
	launcher := exec.Command(os.Args[0])
	launcher.Env = append(os.Environ(), roleVariable+"=launcher", quickExit)
	stdout, err := launcher.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := launcher.Start(); err != nil {
		t.Fatal(err)
	}
	lines, pids := bufio.NewReader(stdout), [2]int{}
	for i := range pids {
		line, _ := lines.ReadString('\n')
		if pids[i], err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
			t.Error(err)
		}
	}
	if err := launcher.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = launcher.Wait()
	for _, pid := range pids {
		gone(t, pid)
	}
}

func TestBadJobs(t *testing.T) {
	for text, spoil := range map[string]func(o *Options){
		"-np 0":             func(o *Options) { o.Ranks = 0 },
		"--nodes 0":         func(o *Options) { o.Nodes = 0 },
		"--nodes 3 is more": func(o *Options) { o.Nodes = 3 },
		"no program to run": func(o *Options) { o.Command = nil },
		"--grace":           func(o *Options) { o.Grace = -1 },
		"no-such-program":   func(o *Options) { o.Command = []string{"no-such-program"} },
		"start rank 0":      func(o *Options) { o.Command = []string{"/"} },
	} {
		o, _, _ := roleOf(2, "env")
		spoil(&o)
		if _, err := Run(o); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
