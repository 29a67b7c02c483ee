// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// Hosts that are network namespaces, each with a TCP stack of its own, and what happens between them. Of the bounds that these
// tests wait for, the system's clocks and not the tests' patience are the subject; see docs/testing.md.

// fewVariable, if it is set, makes the ranks of these tests sum few elements.
const fewVariable = "HFREDUCE_TEST_FEW"

// vector is what the ranks sum: so much that data is under way at nearly any time, if it is not to be little.
func vector() []int32 {
	if os.Getenv(fewVariable) != "" {
		return make([]int32, 1<<15)
	}
	return make([]int32, 1<<20)
}

// fill writes a rank's input of a round.
func fill(x []int32, rank, round int) {
	for i := range x {
		x[i] = int32(rank*i + round)
	}
}

// sumRound sums and checks. The last element is apart: it is the sum of what the ranks give as flag.
func sumRound(ctx context.Context, c *Comm, x []int32, round int, flag int32) (flags int32, err error) {
	last := len(x) - 1
	fill(x[:last], c.Rank(), round)
	x[last] = flag
	if err := c.AllReduce(ctx, Host(x), Host(x), Sum); err != nil {
		return 0, err
	}
	np := c.WorldSize()
	for i := range x[:last] {
		if want := int32(np*(np-1)/2*i + np*round); x[i] != want {
			return 0, fmt.Errorf("wrong result: round %d, rank %d: element %d is %d, want %d", round, c.Rank(), i, x[i], want)
		}
	}
	return x[last], nil
}

// ended says how a rank's collective ended, in one line, and returns the error.
func ended(err error) error {
	var culprits []int
	var fault *FaultError
	if errors.As(err, &fault) {
		for _, c := range fault.Culprits {
			culprits = append(culprits, c.Rank)
		}
	}
	fmt.Printf("error: lost=%t timeout=%t culprits=%d %s\n", errors.Is(err, ErrPeerLost), errors.Is(err, ErrTimeout), culprits, strings.ReplaceAll(err.Error(), "\n", " "))
	return err
}

// roleSteady sums until rank 0's input ends.
func roleSteady(ctx context.Context, c *Comm) error {
	var stop atomic.Int32
	if c.Rank() == 0 {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop.Store(1)
		}()
	}
	x := vector()
	for round := 0; ; round++ {
		flags, err := sumRound(ctx, c, x, round, stop.Load())
		if err != nil {
			return ended(err)
		}
		if round == 5 {
			fmt.Println("running")
		}
		if flags > 0 {
			fmt.Println("stopped")
			return nil
		}
	}
}

// rolePause sums once, waits for a line, and sums again.
func rolePause(ctx context.Context, c *Comm) error {
	x := vector()
	if _, err := sumRound(ctx, c, x, 0, 0); err != nil {
		return err
	}
	fmt.Println("running")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	if _, err := sumRound(ctx, c, x, 1, 0); err != nil {
		return ended(err)
	}
	return nil
}

// roleLate waits for a line before it sums, so that links are made then.
func roleLate(ctx context.Context, c *Comm) error {
	fmt.Println("running")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	if _, err := sumRound(ctx, c, vector(), 0, 0); err != nil {
		return ended(err)
	}
	return nil
}

// rolePath measures the link from rank 1 to rank 2 for as long as that goes.
func rolePath(ctx context.Context, c *Comm) error {
	test := LinkTest{From: 1, To: 2, Mode: LinkBoth, Sizes: []int{1 << 20}, Window: 4, Iters: 10}
	if _, err := c.MeasureLink(ctx, test); err != nil {
		return err
	}
	fmt.Println("running")
	test.Iters = MaxLinkIters
	_, err := c.MeasureLink(ctx, test)
	return ended(err)
}

// roleUnused sums once and then only has its communicator, until that breaks.
func roleUnused(ctx context.Context, c *Comm) error {
	if _, err := sumRound(ctx, c, vector(), 0, 0); err != nil {
		return err
	}
	fmt.Println("running")
	select {
	case <-c.life.Done():
	case <-ctx.Done():
	}
	return ended(c.Barrier(ctx))
}

// awaitRunning waits until all ranks are so far.
func awaitRunning(t *testing.T, children []*child) {
	t.Helper()
	for r, c := range children {
		expect(t, r, c, "running")
	}
}

func expect(t *testing.T, rank int, c *child, want string) {
	t.Helper()
	if !c.lines.Scan() || c.lines.Text() != want {
		t.Fatalf("rank %d said %q, want %q; %s", rank, c.lines.Text(), want, c.out.String())
	}
}

// stop ends the ranks of roleSteady, which must have got right results only.
func stop(t *testing.T, children []*child) {
	t.Helper()
	_ = children[0].in.Close()
	for r, c := range children {
		expect(t, r, c, "stopped")
		if err := c.Wait(); err != nil {
			t.Errorf("rank %d: %v: %s", r, err, c.out.String())
		}
	}
}

// lastWords are what a rank said at its end, and when.
type lastWords struct {
	line string
	at   time.Time
}

// reports collects the ends of all ranks.
func reports(children []*child) []lastWords {
	all := make([]lastWords, len(children))
	var wg sync.WaitGroup
	for r, c := range children {
		wg.Go(func() {
			c.lines.Scan()
			all[r] = lastWords{c.lines.Text(), time.Now()}
			_ = c.Wait()
		})
	}
	wg.Wait()
	return all
}

var lostRanks = regexp.MustCompile(`^error: lost=true timeout=false culprits=\[([0-9 ]+)\] `)

// checkLost checks that each rank names, within the bound, a rank of those that it cannot reach.
func checkLost(t *testing.T, children []*child, all []lastWords, cut time.Time, bound time.Duration, lost func(rank int) []int) {
	t.Helper()
	for r, rep := range all {
		took := rep.at.Sub(cut)
		t.Logf("rank %d after %v: %s", r, took.Round(time.Millisecond), rep.line)
		m := lostRanks.FindStringSubmatch(rep.line)
		if m == nil {
			t.Errorf("rank %d said %q, want that a peer is lost; %s", r, rep.line, children[r].out.String())
			continue
		}
		if named := strings.Fields(m[1]); !slices.ContainsFunc(lost(r), func(l int) bool { return slices.Contains(named, strconv.Itoa(l)) }) {
			t.Errorf("rank %d names %v as lost, could not reach %v", r, named, lost(r))
		}
		if took > bound+3*time.Second {
			t.Errorf("rank %d knew it after %v, with a HeartbeatTimeout of %v", r, took, bound)
		}
	}
}

// TestNetnsPartition cuts hosts off from rank 0's and looks that the ranks of both sides know soon.
func TestNetnsPartition(t *testing.T) {
	for _, f := range breakages {
		for _, role := range []string{"steady", "pause", "idle"} {
			t.Run(f.name+"/"+role, func(t *testing.T) {
				t.Parallel()
				partition(t, f, role, 2*time.Second)
			})
		}
	}
	t.Run("default bound", func(t *testing.T) {
		t.Parallel()
		partition(t, breakages[1], "steady", 0)
	})
}

// partition cuts the host of ranks 2 and 3 off.
func partition(t *testing.T, f breakage, role string, bound time.Duration) {
	l := newLAN(t, 3, false)
	env := []string{}
	if bound > 0 {
		env = append(env, "HFREDUCE_HEARTBEAT_TIMEOUT="+bound.String())
	} else {
		bound = DefaultHeartbeatTimeout
	}
	children := l.spawn(role, []int{0, 1, 2, 2}, env...)
	awaitRunning(t, children)
	cut := time.Now()
	f.cut(l, 2)
	for _, c := range children {
		_, _ = io.WriteString(c.in, "go on\n") // for those who wait
	}
	checkLost(t, children, reports(children), cut, bound, func(rank int) []int {
		if rank < 2 {
			return []int{2, 3}
		}
		return []int{0, 1}
	})
}

// TestNetnsHubHostLost cuts off the host of rank 0 and two more. The others go on soon: they do not wait for one of that host's
// ranks after the other to take rank 0's place.
func TestNetnsHubHostLost(t *testing.T) {
	t.Parallel()
	const bound = 2 * time.Second
	l := newLAN(t, 3, false)
	children := l.spawn("shrink", []int{0, 0, 0, 1, 2}, "HFREDUCE_HEARTBEAT_TIMEOUT="+bound.String())
	for r, c := range children {
		expect(t, r, c, "running 5")
	}
	cut := time.Now()
	breakages[1].cut(l, 0)
	for r := 3; r < 5; r++ {
		if c := children[r]; !c.lines.Scan() || !strings.HasPrefix(c.lines.Text(), ErrPeerLost.Error()) {
			t.Errorf("rank %d said %q; %s", r, c.lines.Text(), c.out.String())
		}
		expect(t, r, children[r], "running 2")
		took := time.Since(cut)
		t.Logf("rank %d went on after %v", r, took.Round(time.Millisecond))
		if took > bound+10*time.Second { // of which half is one try at that host
			t.Errorf("rank %d went on after %v, with a HeartbeatTimeout of %v", r, took, bound)
		}
	}
	for _, c := range children {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
}

// TestNetnsPathLost: two hosts cannot reach each other any more, and both reach rank 0. All ranks must hear of it, and of
// which path it is. All hosts have the same address on a bridge, as for containers, at which each finds nobody but itself.
func TestNetnsPathLost(t *testing.T) {
	for _, role := range []string{"steady", "pause", "path", "late"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			const bound = 2 * time.Second
			l := newLAN(t, 3, false)
			l.addBridges("172.17.0.1/16")
			children := l.spawn(role, []int{0, 1, 2}, "HFREDUCE_HEARTBEAT_TIMEOUT="+bound.String())
			awaitRunning(t, children)
			cut := time.Now()
			l.isolate(1, 2)
			for _, c := range children {
				_, _ = io.WriteString(c.in, "go on\n")
			}
			all := reports(children)
			checkLost(t, children, all, cut, bound, func(int) []int { return []int{1, 2} })
			for r, rep := range all {
				if !strings.Contains(rep.line, "rank 1") || !strings.Contains(rep.line, "rank 2") {
					t.Errorf("rank %d does not name both ends of the path: %s", r, rep.line)
				}
			}
		})
	}
}

// TestNetnsPathLostBeforeLink: the same while rank 1 waits for the link to rank 2, which is late.
func TestNetnsPathLostBeforeLink(t *testing.T) {
	t.Parallel()
	const bound = 2 * time.Second
	l := newLAN(t, 3, false)
	children := l.spawn("late", []int{0, 1, 2}, "HFREDUCE_HEARTBEAT_TIMEOUT="+bound.String())
	awaitRunning(t, children)
	for _, c := range children[:2] {
		_, _ = io.WriteString(c.in, "go on\n")
	}
	l.awaitConnection(1, 2)
	cut := time.Now()
	l.isolate(1, 2)
	all := reports(children[:2])
	_, _ = io.WriteString(children[2].in, "go on\n")
	all = append(all, reports(children[2:])...)
	checkLost(t, children, all, cut, bound, func(int) []int { return []int{1, 2} })
}

// TestNetnsHeals: a break that is shorter than the bound is nothing but a pause.
func TestNetnsHeals(t *testing.T) {
	for _, f := range breakages {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			l := newLAN(t, 2, false)
			children := l.spawn("steady", []int{0, 1}, "HFREDUCE_HEARTBEAT_TIMEOUT=6s")
			awaitRunning(t, children)
			f.cut(l, 1)
			time.Sleep(3 * time.Second) // how long it lasts is what is tested
			f.mend(l, 1)
			stop(t, children)
		})
	}
}

// TestNetnsHealsBeforeLink: the same while rank 1 waits for the link to rank 2, which is late. Of the probes, one a second, each break
// swallows one.
func TestNetnsHealsBeforeLink(t *testing.T) {
	t.Parallel()
	l := newLAN(t, 3, false)
	children := l.spawn("late", []int{0, 1, 2}, "HFREDUCE_HEARTBEAT_TIMEOUT=2s")
	awaitRunning(t, children)
	for _, c := range children[:2] {
		_, _ = io.WriteString(c.in, "go on\n")
	}
	l.awaitConnection(1, 2)
	for range 2 {
		l.isolate(1, 2)
		time.Sleep(900 * time.Millisecond) // how long it lasts is what is tested
		l.rejoin(1, 2)
		time.Sleep(1500 * time.Millisecond)
	}
	_, _ = io.WriteString(children[2].in, "go on\n")
	for r, c := range children {
		if err := c.Wait(); err != nil {
			t.Errorf("rank %d: %v: %s", r, err, c.out.String())
		}
	}
}

// TestNetnsStoppedProcess: a process that is stopped is not lost, however long; whether that is too long for a collective is
// for Options.Timeout to say.
func TestNetnsStoppedProcess(t *testing.T) {
	const bound = 2 * time.Second
	start := func(t *testing.T, env ...string) []*child {
		l := newLAN(t, 3, false)
		children := l.spawn("steady", []int{0, 1, 2}, append(env, "HFREDUCE_HEARTBEAT_TIMEOUT="+bound.String())...)
		awaitRunning(t, children)
		return children
	}
	send := func(t *testing.T, c *child, s syscall.Signal) {
		if err := c.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	for victim := range 2 { // with rank 0 all that the others are told by
		t.Run(fmt.Sprintf("goes on/rank %d", victim), func(t *testing.T) {
			t.Parallel()
			children := start(t)
			send(t, children[victim], syscall.SIGSTOP)
			time.Sleep(2*bound + time.Second) // how long it lasts is what is tested
			send(t, children[victim], syscall.SIGCONT)
			stop(t, children)
		})
	}
	t.Run("times out", func(t *testing.T) {
		t.Parallel()
		children := start(t, "HFREDUCE_TIMEOUT=5s")
		began := time.Now()
		send(t, children[1], syscall.SIGSTOP)
		others := []*child{children[0], children[2]}
		for i, c := range others {
			if !c.lines.Scan() || !strings.HasPrefix(c.lines.Text(), "error: lost=false timeout=true culprits=[1] ") {
				t.Errorf("rank %d said %q; %s", 2*i, c.lines.Text(), c.out.String())
			}
			t.Logf("rank %d after %v: %s", 2*i, time.Since(began), c.lines.Text())
		}
		send(t, children[1], syscall.SIGCONT)
		for _, c := range children {
			_ = c.Wait()
		}
	})
}

// TestNetnsBadNetwork sums over networks that lose a packet in a hundred, and over one that takes its time, too.
func TestNetnsBadNetwork(t *testing.T) {
	for _, tt := range []struct {
		name, feature string
		harm          func(l *lan, host int) error
	}{{"loss", "clsbpf", (*lan).lose}, {"loss and delay", "netem", (*lan).loseAndDelay}} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, 3, false)
			for i := range l.hosts {
				if err := tt.harm(l, i); err != nil {
					testreq.Missing(t, tt.feature, err.Error())
				}
			}
			children := l.spawn("steady", []int{0, 1, 2, 2}, fewVariable+"=1")
			awaitRunning(t, children)
			for deadline := time.Now().Add(30 * time.Second); min(l.dropped(0), l.dropped(1), l.dropped(2)) < 3; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("a host has lost less than three packets")
				}
			}
			stop(t, children)
		})
	}
}

// TestNetnsIPv6Only: hosts without any IPv4 address but loopback's.
func TestNetnsIPv6Only(t *testing.T) {
	l := newLAN(t, 3, true)
	children := l.spawn("steady", []int{0, 1, 2, 2})
	awaitRunning(t, children)
	stop(t, children)
}
