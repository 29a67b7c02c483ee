// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
)

// Ranks that are processes are killed and stopped in every stage of collectives, at random. Each of the others must say who it
// was, and what it was last seen doing, in time and with one voice.

const (
	chaosVariable     = "HFREDUCE_TEST_CHAOS"      // the seed of a child's collectives
	chaosRunsVariable = "HFREDUCE_TEST_CHAOS_RUNS" // how many runs there are
	chaosSeedVariable = "HFREDUCE_TEST_CHAOS_SEED" // of the first; the others follow

	chaosRuns    = 500
	chaosAtOnce  = 10
	chaosCalls   = 40          // of a run, if nothing happens
	chaosTimeout = time.Second // Options.Timeout of runs in which a rank is stopped
	// What a run that hangs is given up after. What errors really take is printed, and counted when it is more than a second.
	chaosPatience = 20 * time.Second
)

// last is what a rank says at its end.
type last struct {
	Kind     string // of the sentinel; "" if nothing happened
	Culprits []Culprit
	Text     string
	Took     time.Duration // of the call that failed
	Left     []string      // descriptors that should be closed
}

// roleChaos sums random amounts until something happens, and says what.
func roleChaos(ctx context.Context, c *Comm) error {
	seed, err := strconv.ParseUint(os.Getenv(chaosVariable), 10, 64)
	if err != nil {
		return err
	}
	took, err := sumAtRandom(ctx, c, rand.New(rand.NewPCG(seed, 0)))
	if err == nil { // nothing happened
		return nil
	}
	var fault *FaultError
	if !errors.As(err, &fault) {
		return err
	}
	if err := c.Close(ctx); err != nil {
		return err
	}
	b, err := json.Marshal(last{Kind: fault.Err.Error(), Culprits: fault.Culprits, Text: fault.Text, Took: took, Left: descriptors()})
	if err != nil {
		return err
	}
	fmt.Println(string(b))
	os.Exit(0) // play would close the Comm again
	return nil
}

// sumAtRandom returns the first error, and how long the call took.
func sumAtRandom(ctx context.Context, c *Comm, rng *rand.Rand) (took time.Duration, err error) {
	for range chaosCalls {
		x := make([]int32, rng.IntN(1<<rng.IntN(20)))
		for i := range x {
			x[i] = int32(i)
		}
		begin := time.Now()
		if err := c.AllReduce(ctx, Host(x), Host(x), Sum); err != nil {
			return time.Since(begin), err
		}
		for i := range x {
			if x[i] != int32(i*c.WorldSize()) {
				return 0, fmt.Errorf("rank %d: element %d of %d is %d, want %d", c.Rank(), i, len(x), x[i], i*c.WorldSize())
			}
		}
	}
	return 0, nil
}

// descriptors lists this process's sockets and shared memory.
func descriptors() (left []string) {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && (strings.HasPrefix(to, "socket:") || strings.Contains(to, "memfd:")) {
			left = append(left, to)
		}
	}
	return left
}

// chaos is one run.
type chaos struct {
	seed   uint64
	nodeOf []int
	victim int
	stop   bool // else kill
	stage  engine.Stage
	call   int
}

// emulated reports whether this is the virtual machine with RDMA devices, whose processors are emulated: there ranks may be too
// slow to answer in time, and look stopped.
func emulated() bool { return os.Getenv("HFREDUCE_TEST_RDMA_BED") != "" }

func newChaos(seed uint64) chaos {
	rng := rand.New(rand.NewPCG(seed, 1))
	worlds := [][]int{blocks(4, 1), blocks(2, 2), blocks(4, 2), blocks(5, 2), blocks(4, 4)}
	k := chaos{seed: seed, nodeOf: worlds[rng.IntN(len(worlds))], stop: rng.IntN(2) == 0 && !emulated()}
	k.call = 2 + rng.IntN(8) // after the first one all ranks have left Init, whose bound is another
	k.victim = rng.IntN(len(k.nodeOf))
	stages := []engine.Stage{engine.StageEnter, engine.StageInput, engine.StageReduce, engine.StageOutput, engine.StageLeave}
	if k.nodeOf[len(k.nodeOf)-1] > 0 {
		stages = append(stages, engine.StageUp, engine.StageDown)
	}
	k.stage = stages[rng.IntN(len(stages))]
	return k
}

func (k chaos) String() string {
	action := "kill"
	if k.stop {
		action = "stop"
	}
	// The stage may not come in that call, so a later one counts as well; not the last, which the others may end before they know.
	return fmt.Sprintf("%s rank=%d stage=%v call=%d-%d", action, k.victim, k.stage, k.call, chaosCalls-1)
}

// watched reports whether a rank that lives shares the victim's node, and sees where it stands.
func (k chaos) watched() bool {
	for r, node := range k.nodeOf {
		if r != k.victim && node == k.nodeOf[k.victim] {
			return true
		}
	}
	return false
}

// outcome sums up runs.
type outcome struct {
	mu             sync.Mutex
	killed         int
	stopped        int
	missed         int // the stage did not come
	slow           int // errors that took more than a second, beyond Options.Timeout
	killedIn, stop time.Duration
	byStage        map[engine.Stage]int
}

func TestKilledAndStoppedAnywhere(t *testing.T) {
	runs, seed := chaosRuns, rand.Uint64()
	if v := os.Getenv(chaosRunsVariable); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		runs = n
	} else if raceEnabled || testing.Short() {
		runs /= 10 // the whole number runs without the race detector
	}
	atOnce := chaosAtOnce
	if emulated() {
		runs, atOnce = min(runs, 12), 2
	}
	if v := os.Getenv(chaosSeedVariable); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("seed %d", seed)
	out := outcome{byStage: map[engine.Stage]int{}}
	next := make(chan uint64)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for s := range next {
				newChaos(s).run(t, &out)
			}
		})
	}
	for i := range runs {
		if t.Failed() {
			break
		}
		next <- seed + uint64(i)
	}
	close(next)
	wg.Wait()
	t.Logf("%d killed, the others knew after %v at most; %d stopped, %v after Timeout; %d times the stage did not come; by stage %v; %d errors took more than a second",
		out.killed, out.killedIn.Round(time.Millisecond), out.stopped, out.stop.Round(time.Millisecond), out.missed, out.byStage, out.slow)
	if out.missed > runs/2 {
		t.Errorf("in %d of %d runs nothing happened", out.missed, runs)
	}
}

// run lets one rank end, or stand still, and hears the others.
func (k chaos) run(t *testing.T, out *outcome) {
	children := spawnWith(t, "chaos", k.nodeOf, func(rank int) []string {
		env := []string{"HFREDUCE_FAULT=" + k.String(), fmt.Sprintf("%s=%d", chaosVariable, k.seed), "HFREDUCE_TRANSPORT=" + cmp.Or(os.Getenv("HFREDUCE_TRANSPORT"), "tcp")}
		if k.stop {
			env = append(env, "HFREDUCE_TIMEOUT="+chaosTimeout.String())
		}
		return env
	})
	died := make(chan time.Time, 1)
	go func() {
		_ = children[k.victim].Wait()
		died <- time.Now()
	}()
	said, at := make([]*last, len(children)), make([]time.Time, len(children))
	patience := chaosPatience
	if emulated() {
		patience *= 4
	}
	giveUp := time.AfterFunc(patience, func() {
		t.Errorf("seed %d, %v: a rank hangs", k.seed, k)
		for _, c := range children {
			_ = c.Process.Signal(syscall.SIGQUIT) // prints where its goroutines are
		}
	})
	var wg sync.WaitGroup
	for r, c := range children {
		if r == k.victim {
			continue
		}
		wg.Go(func() {
			if c.lines.Scan() {
				at[r] = time.Now()
				said[r] = &last{}
				if err := json.Unmarshal(c.lines.Bytes(), said[r]); err != nil {
					t.Errorf("seed %d, %v: rank %d said %q", k.seed, k, r, c.lines.Text())
				}
			}
			if err := c.Wait(); err != nil {
				t.Errorf("seed %d, %v: rank %d: %v; %s", k.seed, k, r, err, c.out.String())
			}
		})
	}
	wg.Wait()
	giveUp.Stop()
	_ = children[k.victim].Process.Kill()
	death := <-died
	if !slices.ContainsFunc(said, func(l *last) bool { return l != nil }) {
		out.mu.Lock()
		defer out.mu.Unlock()
		out.missed++
		return
	}
	k.check(t, said, children[k.victim].Process.Pid)
	out.add(k, said, at, death)
}

// check compares what the others said with what happened.
func (k chaos) check(t *testing.T, said []*last, pid int) {
	var first *last
	for r, l := range said {
		if r == k.victim {
			continue
		}
		fault := func(format string, args ...any) {
			t.Errorf("seed %d, %v, nodes %v: rank %d: %s; it said %+v", k.seed, k, k.nodeOf, r, fmt.Sprintf(format, args...), l)
		}
		want := ErrPeerLost
		if k.stop {
			want = ErrTimeout
		}
		switch {
		case l == nil:
			t.Errorf("seed %d, %v, nodes %v: rank %d ended without an error", k.seed, k, k.nodeOf, r)
			continue
		case l.Kind != want.Error():
			fault("want %v", want)
		case len(l.Culprits) != 1 || l.Culprits[0].Rank != k.victim || l.Culprits[0].PID != pid || l.Culprits[0].Lost == k.stop:
			fault("want rank %d, pid %d", k.victim, pid)
		case len(l.Left) > 0:
			fault("descriptors are left")
		}
		if first == nil {
			first = l
		}
		if k.stop && k.victim == 0 {
			continue // nobody judges, so everybody says what he knows
		}
		if l.Text != first.Text {
			fault("another one said %s", first.Text)
		}
		if k.watched() && len(l.Culprits) == 1 && (l.Culprits[0].Phase != phaseOf(k.stage) || l.Culprits[0].Seq < uint64(k.call)) {
			fault("want collective %d or later and phase %q", k.call, phaseOf(k.stage))
		}
	}
}

// add counts a run in which something happened.
func (o *outcome) add(k chaos, said []*last, at []time.Time, death time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.byStage[k.stage]++
	for r, l := range said {
		if l == nil || r == k.victim {
			continue
		}
		late := at[r].Sub(death)
		if k.stop {
			late = l.Took - chaosTimeout
			o.stop = max(o.stop, late)
		} else {
			o.killedIn = max(o.killedIn, late)
		}
		if late > time.Second {
			o.slow++
		}
	}
	if k.stop {
		o.stopped++
	} else {
		o.killed++
	}
}
