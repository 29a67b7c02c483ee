// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// faultyLayouts have more than one node: faults of messages need a network.
var faultyLayouts = []string{"2x1", "3x1", "2x2", "5on2", "4x2"}

// faultySums are AllReduces with their right results, by the oracle.
type faultySums struct{ inputs, want [][]byte }

// newFaultySums returns sums of a few sizes: an exchange, an item, several.
func newFaultySums(t *testing.T, nodeOf []int) []faultySums {
	var all []faultySums
	for _, count := range []int{3, 2000, 30_001} {
		in := inputs(TypeFloat32, count, len(nodeOf), 6)
		want := newOracle(t, nodeOf, TypeFloat32, Sum, nil).reduce(schedule.AllReduce, in, 4, -1)
		all = append(all, faultySums{in, [][]byte{want}})
	}
	return all
}

// reduceAll runs the sums on a rank and returns how many results were wrong.
func reduceAll(ctx context.Context, c *Comm, all []faultySums) (wrong int, err error) {
	for _, s := range all {
		dst := make([]byte, len(s.want[0]))
		if err := c.AllReduce(ctx, Bytes(dst, TypeFloat32), Bytes(s.inputs[c.Rank()], TypeFloat32), Sum); err != nil {
			return wrong, err
		}
		if !bytes.Equal(dst, s.want[0]) {
			wrong++
		}
	}
	return wrong, nil
}

// border returns the ranks of the first node and the others, as partition= takes them.
func border(nodeOf []int) string {
	var sides [2][]string
	for rank, node := range nodeOf {
		side := min(node, 1)
		sides[side] = append(sides[side], strconv.Itoa(rank))
	}
	return strings.Join(sides[0], ",") + "|" + strings.Join(sides[1], ",")
}

// small makes many messages of little data.
func small(fault string) Options {
	return Options{ChunkBytes: 4096, Slots: 4, Timeout: 5 * time.Minute, Fault: fault}
}

// TestFaultsThatOnlyDelay: delays, pauses and partitions that heal leave all results right.
func TestFaultsThatOnlyDelay(t *testing.T) {
	for _, layout := range faultyLayouts {
		for _, fault := range []string{
			"delay=200us p=0.2", "delay=1ms rank=1; delay=300us peer=1 p=0.5", "partition=BORDER after=3 for=20ms",
			"pause=1ms p=0.05 stage=reduce; pause=2ms rank=0 stage=output p=0.1; pause=1ms rank=1 stage=up p=0.2",
		} {
			t.Run(layout+"/"+fault, func(t *testing.T) {
				t.Parallel()
				nodeOf := layouts[layout]
				all := newFaultySums(t, nodeOf)
				each(t, newWorld(t, nodeOf, small(strings.ReplaceAll(fault, "BORDER", border(nodeOf)))), func(c *Comm) error {
					for range 3 {
						if wrong, err := reduceAll(t.Context(), c, all); err != nil || wrong > 0 {
							return fmt.Errorf("%d of %d results are wrong: %w", wrong, len(all), err)
						}
					}
					return nil
				})
			})
		}
	}
}

// TestFaultOverTCP: the faults are in the links of processes' ranks, too, and where messages land in the user's buffers.
func TestFaultOverTCP(t *testing.T) {
	for _, layout := range []string{"2x1", "3x1", "2x2"} {
		t.Run(layout, func(t *testing.T) {
			nodeOf := layouts[layout]
			all, hits := newFaultySums(t, nodeOf), &records{}
			o := small("delay=300us p=0.3")
			o.Transport, o.Logger = TransportTCP, slog.New(hits)
			each(t, initWorld(t, nodeOf, "127.0.0.1", o), func(c *Comm) error {
				if wrong, err := reduceAll(t.Context(), c, all); err != nil || wrong > 0 {
					return fmt.Errorf("%d results are wrong: %w", wrong, err)
				}
				return nil
			})
			if warned := hits.with("faults are injected", "delay=300"); len(warned) != len(nodeOf) {
				t.Errorf("%d ranks of %d warned of faults", len(warned), len(nodeOf))
			}
			if len(hits.with("fault", "delay=300")) == 0 {
				t.Error("nothing was delayed")
			}
		})
	}
}

// TestFaultCorruptChangesResults: a flipped bit comes out as a wrong result, of sums between nodes of any kind.
func TestFaultCorruptChangesResults(t *testing.T) {
	for _, layout := range faultyLayouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			nodeOf := layouts[layout]
			all := newFaultySums(t, nodeOf)
			var wrong atomic.Int64
			each(t, newWorld(t, nodeOf, small("corrupt=8")), func(c *Comm) error {
				n, err := reduceAll(t.Context(), c, all)
				wrong.Add(int64(n))
				return err
			})
			if wrong.Load() < int64(len(all)) {
				t.Errorf("%d results are wrong of %d on each rank", wrong.Load(), len(all))
			}
		})
	}
}

// TestFaultsThatBreak: every rank gets the error that the fault stands for.
func TestFaultsThatBreak(t *testing.T) {
	const soon = 300 * time.Millisecond
	for _, c := range []struct {
		fault    string
		timeout  time.Duration
		sentinel error
		text     string
	}{
		{"reset rank=0 after=4", 0, ErrPeerLost, "peer lost"},
		{"partial=100 rank=1 after=2", 0, ErrPeerLost, "peer lost"},
		{"drop rank=0 after=4", soon, ErrTimeout, "made no progress for 300ms"},
		{"half-close rank=1 after=2", soon, ErrTimeout, "made no progress"},
		{"partition=BORDER after=2", soon, ErrTimeout, "made no progress"},
		{"abort rank=1 call=2", 0, ErrAborted, `rank 1: an injected fault, "abort rank=1`},
		{"abort rank=0 call=3 stage=reduce", 0, ErrAborted, `stage=reduce`},
	} {
		for _, layout := range []string{"2x1", "3x1", "2x2"} {
			t.Run(layout+"/"+c.fault, func(t *testing.T) {
				t.Parallel()
				nodeOf := layouts[layout]
				o := small(strings.ReplaceAll(c.fault, "BORDER", border(nodeOf)))
				if c.timeout > 0 {
					o.Timeout = c.timeout
				}
				all := newFaultySums(t, nodeOf)
				failTogether(t, newWorld(t, nodeOf, o), c.sentinel, c.text, func(c *Comm) error {
					for range 20 {
						if _, err := reduceAll(t.Context(), c, all); err != nil {
							return err
						}
					}
					return errors.New("nothing happened")
				})
			})
		}
	}
}

// TestFaultPauseEndsWithTheComm: a rank that is held up comes back when the communicator breaks. The time is a fake.
func TestFaultPauseEndsWithTheComm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := small("pause=24h rank=1 call=2 stage=input")
		o.Timeout = time.Hour
		begin := time.Now()
		failTogetherIn(t, newWorld(t, blocks(3, 3), o), ErrTimeout, func(c *Comm) error {
			x := make([]float32, 1000)
			for range 2 {
				if err := c.AllReduce(t.Context(), Host(x), Host(x), Sum); err != nil {
					return err
				}
			}
			return nil
		})
		if took := time.Since(begin); took < time.Hour || took > 61*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

// failTogetherIn is failTogether where time is a fake.
func failTogetherIn(t *testing.T, comms []*Comm, sentinel error, f func(c *Comm) error) {
	t.Helper()
	errs := make([]error, len(comms))
	var wg sync.WaitGroup
	for r, c := range comms {
		wg.Go(func() { errs[r] = f(c) })
	}
	wg.Wait()
	for r, err := range errs {
		if !errors.Is(err, sentinel) {
			t.Errorf("rank %d: %v, want %v", r, err, sentinel)
		}
	}
}

// TestFaultOfOtherComms: comm= tells the world's communicator from those that Split made.
func TestFaultOfOtherComms(t *testing.T) {
	for fault, want := range map[string][2]bool{
		"abort rank=1 call=2":            {true, false},
		"abort rank=1 call=2 comm=other": {false, true},
		"abort rank=1 call=2 comm=any":   {true, true},
	} {
		t.Run(fault, func(t *testing.T) {
			comms := newWorld(t, blocks(2, 2), small(fault))
			subs := make([]*Comm, len(comms))
			each(t, comms, func(c *Comm) (err error) {
				subs[c.Rank()], err = c.Split(t.Context(), 0, 0)
				return err
			})
			t.Cleanup(func() { closeAll(t, subs) })
			for i, group := range [][]*Comm{comms, subs} {
				var aborted atomic.Int64
				each(t, group, func(c *Comm) error {
					for range 3 {
						if err := c.Barrier(t.Context()); errors.Is(err, ErrAborted) {
							aborted.Add(1)
							return nil
						} else if err != nil {
							return err
						}
					}
					return nil
				})
				if got := aborted.Load(); got != 0 && got != 2 || (got == 2) != want[i] {
					t.Errorf("communicator %d: aborted on %d ranks, want %v", i, got, want[i])
				}
			}
		})
	}
}

// TestFaultSameSeed: the same seed gives the same faults, another one others.
func TestFaultSameSeed(t *testing.T) {
	run := func(seed int) []string {
		hits := &records{}
		o := small(fmt.Sprintf("seed=%d; corrupt=2 p=0.1; delay=50us p=0.1; pause=10us p=0.1 stage=reduce", seed))
		o.Logger = slog.New(hits)
		nodeOf := blocks(4, 2)
		all := newFaultySums(t, nodeOf)
		each(t, newWorld(t, nodeOf, o), func(c *Comm) error {
			_, err := reduceAll(t.Context(), c, all)
			return err
		})
		found := hits.with("fault", "")
		slices.Sort(found)
		return found
	}
	first := run(1)
	if len(first) < 5 {
		t.Errorf("only %d faults", len(first))
	}
	for range 3 {
		if again := run(1); !slices.Equal(first, again) {
			t.Errorf("not the same faults with the same seed:\n%s\n\n%s", strings.Join(first, "\n"), strings.Join(again, "\n"))
		}
	}
	if slices.Equal(first, run(2)) {
		t.Error("the same faults with another seed")
	}
}

// records is a log that keeps what was said, without the time and without the numbers of messages, which differ with the
// order of flows.
type records struct {
	mu   sync.Mutex
	said []string
}

func (r *records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *records) WithGroup(string) slog.Handler            { return r }

func (r *records) Handle(_ context.Context, rec slog.Record) error {
	line := rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		if a.Key != "message" {
			line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, line)
	return nil
}

// with returns the lines of a message that have a text.
func (r *records) with(message, text string) (found []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.said {
		if strings.HasPrefix(line, message+" ") && strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func TestFaultNeedsProcesses(t *testing.T) {
	for _, fault := range []string{"kill rank=1", "drop; stop rank=0 call=3"} {
		if _, err := NewLocal(blocks(2, 1), Options{Fault: fault, CUDA: CUDAOff}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "needs ranks that are processes") {
			t.Errorf("%q: %v", fault, err)
		}
	}
}

// TestFaultStagesAreTheEngines: what stage= takes is what the engine says.
func TestFaultStagesAreTheEngines(t *testing.T) {
	for s := engine.StageEnter; s <= engine.StageLeave; s++ {
		o := Options{WorldSize: 1, Fault: "abort stage=" + s.String()}
		if _, err := o.faults(); err != nil {
			t.Error(err)
		}
	}
	o := Options{WorldSize: 1, Fault: "abort stage=" + engine.StageOutside.String()}
	if _, err := o.faults(); err == nil {
		t.Error("a stage that never begins was taken")
	}
}

// TestFaultKillsProcess: the rank's own process ends where the plan says, and the others name it.
func TestFaultKillsProcess(t *testing.T) {
	for _, stage := range []string{"enter", "input", "reduce", "up", "down", "output", "leave"} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			children := spawnWith(t, "spin", blocks(4, 3), func(int) []string {
				return []string{"HFREDUCE_FAULT=kill rank=1 call=30 stage=" + stage}
			})
			for r, c := range children {
				if !c.lines.Scan() || c.lines.Text() != "running" {
					t.Fatalf("rank %d did not start: %q %s", r, c.lines.Text(), c.out.String())
				}
				if r != 1 && (!c.lines.Scan() || !strings.Contains(c.lines.Text(), "peer lost: rank 1 (host ")) {
					t.Errorf("rank %d said %q, want that rank 1 is lost; %s", r, c.lines.Text(), c.out.String())
				}
			}
			for r, c := range children {
				err := c.Wait()
				if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); err == nil || ok && r == 1 && status.Signal() != syscall.SIGKILL {
					t.Errorf("rank %d ended with %v", r, err)
				}
			}
		})
	}
}

// TestFaultCountsCalls: call= counts the calls of the program, not what they are made of.
func TestFaultCountsCalls(t *testing.T) {
	comms := newWorld(t, blocks(4, 2), Options{VerifyResults: true, Fault: "abort rank=1 call=3"})
	errs := failTogether(t, comms, ErrAborted, "an injected fault", func(c *Comm) error {
		x := []int32{1}
		for {
			if err := c.AllReduce(t.Context(), Host(x), Host(x), Sum); err != nil {
				return err
			}
		}
	})
	var op *OpError
	if !errors.As(errs[1], &op) || op.Seq != 3 {
		t.Errorf("rank 1 was hit in %v, want call 3", errs[1])
	}
}

// TestFaultStopsProcess: a rank that stops itself is waited for, and goes on when it is let.
func TestFaultStopsProcess(t *testing.T) {
	children := spawnWith(t, "sum", blocks(2, 2), func(int) []string { return []string{"HFREDUCE_FAULT=stop rank=1"} })
	children[1].awaitStop(t)
	if err := children[1].Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for r, c := range children {
		if err := c.Wait(); err != nil {
			t.Errorf("rank %d: %v: %s", r, err, c.out.String())
		}
	}
}
