// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce/internal/hostmem"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/internal/fakecuda"
	"github.com/hfreduce/hfreduce/internal/testreq"
)

// roleVariable makes the test binary play one of the roles instead of running tests.
const roleVariable = "HFREDUCE_TEST_ROLE"

// roles are what child processes do, as ranks of a job that the environment describes.
var roles = map[string]func(ctx context.Context, c *Comm) error{
	"sum":    roleSum,
	"spin":   roleSpin,
	"stuck":  roleStuck,
	"link":   roleLink,
	"shrink": roleShrink, // shrink_test.go
	"chaos":  roleChaos,  // chaos_test.go
	"abort":  roleAbort,
	"heir":   roleHeir,
	"nan":    roleNaN, // verify_nan_test.go
	// in network namespaces, in netns_test.go
	"steady": roleSteady,
	"pause":  rolePause,
	"late":   roleLate,
	"path":   rolePath,
	"idle":   roleUnused,
	// with GPUs, in device_process_test.go
	"gpusum":    roleGPUSum,
	"gpuspin":   roleGPUSpin,
	"gpufree":   roleGPUFree,
	"gpuodd":    roleGPUOdd,
	"gpulost":   roleGPULost,
	"gpustray":  roleGPUStray,
	"gpublocks": roleGPUBlocks,
	"gpulate":   roleGPULate,
}

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == roleIdle {
		idle()
		os.Exit(0)
	}
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(roles[role]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	if err := fakecuda.Use(); err != nil { // for tests and roles that ask for CUDA
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if live := cuda.Live(); len(live) != 0 {
			fmt.Fprintf(os.Stderr, "left of CUDA: %v\n", live)
			code = 1
		}
		if n := hostmem.LiveMappings(); n != 0 {
			fmt.Fprintf(os.Stderr, "%d mappings of shared memory are left\n", n)
			code = 1
		}
	}
	os.Exit(code)
}

func play(role func(ctx context.Context, c *Comm) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := Init(ctx, Options{})
	if err != nil {
		return err
	}
	return errors.Join(role(ctx, c), c.Close(ctx))
}

// roleSum sums, and checks the sum.
func roleSum(ctx context.Context, c *Comm) error {
	x := make([]int32, 100_000)
	for i := range x {
		x[i] = int32(c.Rank()*i + 1)
	}
	if err := c.AllReduce(ctx, Host(x), Host(x), Sum); err != nil {
		return err
	}
	np := c.WorldSize()
	for i := range x {
		if want := int32(np*(np-1)/2*i + np); x[i] != want {
			return fmt.Errorf("rank %d: element %d is %d, want %d", c.Rank(), i, x[i], want)
		}
	}
	return nil
}

// roleSpin sums for ever; it says when it has begun and with what error it ended.
func roleSpin(ctx context.Context, c *Comm) error {
	x := make([]float32, 50_000)
	for i := 0; ; i++ {
		if err := c.AllReduce(ctx, Host(x), Host(x), Sum); err != nil {
			fmt.Println("error:", err)
			return err
		}
		if i == 10 {
			fmt.Println("running")
		}
	}
}

// roleStuck lets rank 0 stay away from a collective.
func roleStuck(ctx context.Context, c *Comm) error {
	fmt.Println("running")
	if c.Rank() == 0 {
		<-ctx.Done()
	}
	return c.Barrier(ctx)
}

// roleLink measures a link for as long as that goes, and says how it ended.
func roleLink(ctx context.Context, c *Comm) error {
	test := LinkTest{From: 0, To: c.WorldSize() - 1, Mode: LinkBoth, Sizes: []int{4096}, Window: 8, Iters: 10}
	if _, err := c.MeasureLink(ctx, test); err != nil {
		return err
	}
	fmt.Println("running")
	test.Iters = MaxLinkIters
	_, err := c.MeasureLink(ctx, test)
	fmt.Println("error:", err)
	return err
}

// roleAbort has rank 0 stop itself and rank 1 abort outside of any collective, each when a signal tells it to; the others wait in
// a collective.
func roleAbort(ctx context.Context, c *Comm) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	x := make([]int32, 100_000)
	if err := c.AllReduce(ctx, Host(x), Host(x), Sum); err != nil {
		return err
	}
	fmt.Println("running")
	switch c.Rank() {
	case 0:
		<-told
		return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case 1:
		<-told
		c.Abort(errors.New("enough"))
		<-ctx.Done()
		return nil
	}
	begin := time.Now()
	err := c.AllReduce(ctx, Host(x), Host(x), Sum)
	fmt.Println(time.Since(begin).Round(time.Millisecond), err)
	return err
}

// awaitStop waits until the child is stopped.
func (c *child) awaitStop(t *testing.T) {
	t.Helper()
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(c.Process.Pid, &status, syscall.WUNTRACED, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || !status.Stopped() {
			t.Fatalf("it ended with %#x instead of being stopped, %v: %s", int(status), err, c.out.String())
		}
		return
	}
}

// TestAbortGoesAroundAStoppedJudge: rank 0, which passes on what others say, is stopped. An abort reaches a waiting rank by the
// end of its link.
func TestAbortGoesAroundAStoppedJudge(t *testing.T) {
	children := spawn(t, "abort", blocks(3, 3))
	for r, c := range children {
		if !c.lines.Scan() || c.lines.Text() != "running" {
			t.Fatalf("rank %d did not start: %q %s", r, c.lines.Text(), c.out.String())
		}
	}
	for r, c := range children[:2] {
		if err := c.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if r == 0 {
			c.awaitStop(t)
		}
	}
	c := children[2]
	if !c.lines.Scan() {
		t.Fatalf("rank 2 said nothing: %s", c.out.String())
	}
	took, text, _ := strings.Cut(c.lines.Text(), " ")
	d, err := time.ParseDuration(took)
	if err != nil {
		t.Fatal(c.lines.Text())
	}
	t.Logf("after %v: %s", d, text)
	if d > 20*time.Second || !strings.Contains(text, "rank 0 (host") || !strings.Contains(text, "lost the link to rank 1, which closed it") {
		t.Errorf("after %v rank 2 got %s", d, text)
	}
}

// freePort returns an address on host that was free a moment ago, below the ports that the system gives to whoever asks
// for any, such as the ranks themselves.
func freePort(t testing.TB, host string) string {
	for range 100 {
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(20000+rand.IntN(12000))))
		switch {
		case err == nil:
			defer ln.Close()
			return ln.Addr().String()
		case host == "::1" && !errors.Is(err, syscall.EADDRINUSE):
			testreq.Missing(t, "ipv6", err.Error())
		}
	}
	t.Fatalf("100 ports in a row are in use on %s", host)
	return ""
}

// child is one rank that is a process.
type child struct {
	*exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	out   bytes.Buffer
}

// run starts a rank's process.
func run(t *testing.T, cmd *exec.Cmd, env ...string) *child {
	t.Helper()
	c := &child{Cmd: cmd}
	c.Env = append(os.Environ(), env...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.Stderr = &c.out
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.in, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(stdout)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	return c
}

// spawn starts the ranks of a job as processes.
func spawn(t *testing.T, role string, nodeOf []int) []*child {
	t.Helper()
	return spawnWith(t, role, nodeOf, func(int) []string { return nil })
}

// spawnWith is spawn with a rank's own environment.
func spawnWith(t *testing.T, role string, nodeOf []int, own func(rank int) []string) []*child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rendezvous := freePort(t, "127.0.0.1")
	children := make([]*child, len(nodeOf))
	for r, node := range nodeOf {
		env := append(rankEnvironment(t, role, rendezvous, r, len(nodeOf)), fmt.Sprintf("HFREDUCE_NODE=node%d", node))
		children[r] = run(t, exec.Command(exe), append(env, own(r)...)...)
	}
	return children
}

// rankEnvironment is what tells a process which rank of a test it is.
func rankEnvironment(t *testing.T, role, rendezvous string, rank, worldSize int) []string {
	return []string{
		roleVariable + "=" + role, "HFREDUCE_LOG=error", "HFREDUCE_RANK=" + strconv.Itoa(rank), "HFREDUCE_WORLD_SIZE=" + strconv.Itoa(worldSize),
		"HFREDUCE_RENDEZVOUS=" + rendezvous, "HFREDUCE_JOB_ID=" + t.Name(), "HFREDUCE_SECRET=test",
	}
}

func TestProcesses(t *testing.T) {
	for name, nodeOf := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for r, c := range spawn(t, "sum", nodeOf) {
				if err := c.Wait(); err != nil {
					t.Errorf("rank %d: %v: %s", r, err, c.out.String())
				}
			}
		})
	}
}

// TestKilledRankIsNamed kills one rank in the middle of collectives: every other one must end with an error that names
// it.
func TestKilledRankIsNamed(t *testing.T) {
	for _, role := range []string{"spin", "link"} {
		for _, victim := range []int{0, 1, 3} {
			t.Run(fmt.Sprintf("%s/rank%d", role, victim), func(t *testing.T) {
				t.Parallel()
				killOne(t, spawn(t, role, blocks(4, 2)), victim)
			})
		}
	}
}

// killOne kills a rank. The others say that it is lost, then the lines of last, and end with an error.
func killOne(t *testing.T, children []*child, victim int, last ...string) {
	for r, c := range children {
		if !c.lines.Scan() || c.lines.Text() != "running" {
			t.Fatalf("rank %d did not start: %q %s", r, c.lines.Text(), c.out.String())
		}
	}
	pid := children[victim].Process.Pid
	if err := children[victim].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for r, c := range children {
		if r == victim {
			_ = c.Wait()
			continue
		}
		want := fmt.Sprintf("peer lost: rank %d (host ", victim)
		if !c.lines.Scan() || !strings.Contains(c.lines.Text(), want) || !strings.Contains(c.lines.Text(), fmt.Sprintf("pid %d", pid)) {
			t.Errorf("rank %d said %q, want %q with pid %d; %s", r, c.lines.Text(), want, pid, c.out.String())
		}
		for _, line := range last {
			if !c.lines.Scan() || c.lines.Text() != line {
				t.Errorf("rank %d said %q, want %q; %s", r, c.lines.Text(), line, c.out.String())
			}
		}
		if err := c.Wait(); err == nil {
			t.Errorf("rank %d ended without an error", r)
		}
	}
}

// TestNothingLeftAfterKill kills all ranks and looks for what they may have left.
func TestNothingLeftAfterKill(t *testing.T) {
	shmBefore := list(t, "/dev/shm")
	children := spawn(t, "stuck", blocks(4, 2))
	for r, c := range children {
		if !c.lines.Scan() {
			t.Fatalf("rank %d did not start: %s", r, c.out.String())
		}
	}
	for _, c := range children {
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range children {
		_ = c.Wait()
		if err := syscall.Kill(c.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", c.Process.Pid, err)
		}
	}
	if after := list(t, "/dev/shm"); after != shmBefore {
		t.Errorf("/dev/shm was %s, is %s", shmBefore, after)
	}
	sockets, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sockets)) {
		if strings.Contains(line, "@hfreduce-") {
			t.Errorf("socket left: %s", line)
		}
	}
}

func list(t *testing.T, dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(entries)
}

// initWorld makes ranks that are goroutines of this process meet as processes do: over TCP, with a memfd for each node.
func initWorld(t testing.TB, nodeOf []int, host string, o Options) []*Comm {
	t.Helper()
	return initRanks(t, nodeOf, host, o, func(int, *Options) {})
}

// initRanks is initWorld with what is a rank's own.
func initRanks(t testing.TB, nodeOf []int, host string, o Options, own func(rank int, o *Options)) []*Comm {
	t.Helper()
	o.Rendezvous, o.WorldSize, o.JobID, o.Secret = freePort(t, host), len(nodeOf), t.Name(), []byte("secret")
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	comms, errs := make([]*Comm, len(nodeOf)), make([]error, len(nodeOf))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for r, node := range nodeOf {
		wg.Go(func() {
			mine := o
			mine.Rank, mine.Node = r, fmt.Sprintf("node%d", node)
			own(r, &mine)
			if comms[r], errs[r] = Init(ctx, mine); errs[r] != nil {
				cancel() // the others would wait for this rank
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, comms) })
	return comms
}

// TestInitOverTCPGivesTheSameBits compares tcp, over IPv4 and IPv6, with the oracle that the in-memory transport is
// compared with.
func TestInitOverTCPGivesTheSameBits(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		for name, nodeOf := range layouts {
			t.Run(name+"/"+host, func(t *testing.T) {
				comms := initWorld(t, nodeOf, host, Options{Transport: TransportTCP, ChunkBytes: 8192, Slots: 4})
				checkBits(t, comms, nodeOf)
			})
		}
	}
}

// checkBits compares sums of several types with the oracle's.
func checkBits(t *testing.T, comms []*Comm, nodeOf []int) {
	t.Helper()
	for _, d := range []DataType{TypeFloat32, TypeBFloat16, TypeFloat8E5M2} {
		for _, count := range []int{3, 1000, 70_001} {
			in := inputs(d, count, len(nodeOf), 6)
			want := newOracle(t, nodeOf, d, Sum, nil).reduce(schedule.AllReduce, in, d.Size(), -1)
			each(t, comms, func(c *Comm) error {
				dst := make([]byte, len(want))
				if err := c.AllReduce(context.Background(), Bytes(dst, d), Bytes(in[c.Rank()], d), Sum); err != nil {
					return err
				}
				return same(d.String(), dst, want)
			})
		}
	}
}
