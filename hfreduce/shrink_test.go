// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sums checks that a Comm's ranks add: each gives 1.
func sums(ctx context.Context, c *Comm) error {
	for _, n := range []int{3, 200_000} {
		x, y := make([]int32, n), make([]int32, n)
		for i := range x {
			x[i] = 1
		}
		if err := c.AllReduce(ctx, Host(y), Host(x), Sum); err != nil {
			return err
		}
		if ones := int32(c.WorldSize()); slices.Min(y) != ones || slices.Max(y) != ones {
			return fmt.Errorf("rank %d: sums are %d..%d, want %d", c.Rank(), slices.Min(y), slices.Max(y), ones)
		}
	}
	return nil
}

// TestShrinkAfterAbort makes a new communicator of all ranks, twice, with the input of the collective that failed.
func TestShrinkAfterAbort(t *testing.T) {
	worlds := map[string]func(t *testing.T, nodeOf []int) []*Comm{
		"goroutines": func(t *testing.T, nodeOf []int) []*Comm { return newWorld(t, nodeOf, Options{}) },
		"processes": func(t *testing.T, nodeOf []int) []*Comm {
			return initWorld(t, nodeOf, "127.0.0.1", Options{Transport: TransportTCP})
		},
	}
	for name, world := range worlds {
		for layout, nodeOf := range verdictLayouts {
			t.Run(name+"/"+layout, func(t *testing.T) {
				comms := world(t, nodeOf)
				if _, err := comms[0].Shrink(t.Context()); !errors.Is(err, ErrInvalid) {
					t.Errorf("Shrink of a sound communicator returned %v", err)
				}
				for round := range 2 {
					left := make([]*Comm, len(comms))
					each(t, comms, func(c *Comm) (err error) {
						x, y := []int32{1, 2, 3}, make([]int32, 3)
						if c.Rank() == round {
							c.Abort(errors.New("try again"))
						}
						if err := c.AllReduce(t.Context(), Host(y), Host(x), Sum); !errors.Is(err, ErrAborted) {
							return fmt.Errorf("got %v", err)
						}
						if left[c.Rank()], err = c.Shrink(t.Context()); err != nil {
							return err
						}
						if _, err := c.Shrink(t.Context()); !errors.Is(err, ErrInvalid) {
							return fmt.Errorf("Shrink once more returned %v", err)
						}
						n := left[c.Rank()]
						if err := n.AllReduce(t.Context(), Host(y), Host(x), Sum); err != nil {
							return err
						}
						if np := int32(len(nodeOf)); n.Rank() != c.Rank() || !slices.Equal(y, []int32{np, 2 * np, 3 * np}) {
							return fmt.Errorf("rank %d is rank %d now and got %v", c.Rank(), n.Rank(), y)
						}
						return sums(t.Context(), n)
					})
					t.Cleanup(func() { closeAll(t, left) })
					comms = left
				}
			})
		}
	}
}

// TestShrinkLeavesOut: a rank that does not come in time is left out, and told so when it comes.
func TestShrinkLeavesOut(t *testing.T) {
	comms := initWorld(t, blocks(4, 2), "127.0.0.1", Options{Transport: TransportTCP})
	comms[2].Abort(nil)
	left := make([]*Comm, 4)
	each(t, comms, func(c *Comm) (err error) {
		<-c.life.Done()
		if c.Rank() == 1 {
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		left[c.Rank()], err = c.Shrink(ctx)
		return err
	})
	if _, err := comms[1].Shrink(t.Context()); !errors.Is(err, ErrPeerLost) || !strings.Contains(err.Error(), "gone on without rank 1") {
		t.Errorf("the late rank got %v", err)
	}
	left = []*Comm{left[0], left[2], left[3]}
	t.Cleanup(func() { closeAll(t, left) })
	for r, c := range left {
		if c.Rank() != r || c.WorldSize() != 3 || c.Nodes() != 2 {
			t.Errorf("rank %d is %d of %d on %d nodes", r, c.Rank(), c.WorldSize(), c.Nodes())
		}
	}
	each(t, left, func(c *Comm) error { return sums(t.Context(), c) })
}

// roleShrink sums for ever, shrinks when ranks are lost, and says so.
func roleShrink(ctx context.Context, c *Comm) error {
	for first := true; ; first = false {
		if err := sums(ctx, c); err != nil {
			return err
		}
		fmt.Println("running", c.WorldSize())
		err := error(nil)
		for err == nil {
			err = sums(ctx, c)
		}
		var fault *FaultError
		if !errors.As(err, &fault) {
			return err
		}
		fmt.Println(fault)
		n, err := c.Shrink(ctx)
		if err != nil {
			return err
		}
		if !first { // the first one is closed by play
			defer c.Close(ctx)
		}
		if c = n; c.WorldSize() == 1 {
			fmt.Println("alone")
			return c.Close(ctx)
		}
	}
}

// TestShrinkAfterDeaths kills ranks one after the other, rank 0 and nodes as a whole among them, until one is left. The
// others are told the same, and go on without them.
func TestShrinkAfterDeaths(t *testing.T) {
	for name, order := range map[string][]int{"upwards": {0, 1, 2, 3}, "downwards": {4, 3, 2, 1}, "hub in between": {2, 0, 1, 4}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			children := spawn(t, "shrink", blocks(5, 2))
			alive := []int{0, 1, 2, 3, 4}
			expect := func(want func(line string) bool, what string) {
				t.Helper()
				for _, r := range alive {
					c := children[r]
					if !c.lines.Scan() || !want(c.lines.Text()) {
						t.Fatalf("rank %d said %q, want %s; %s", r, c.lines.Text(), what, c.out.String())
					}
				}
			}
			for _, victim := range order {
				running := fmt.Sprint("running ", len(alive))
				expect(func(line string) bool { return line == running }, running)
				pid := children[victim].Process.Pid
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				_ = children[victim].Wait()
				alive = slices.DeleteFunc(alive, func(r int) bool { return r == victim })
				first := ""
				expect(func(line string) bool {
					if first == "" {
						first = line
					}
					return line == first && strings.Contains(line, fmt.Sprintf("pid %d)", pid)) && strings.HasPrefix(line, ErrPeerLost.Error())
				}, fmt.Sprintf("that pid %d is lost, as the others", pid))
			}
			expect(func(line string) bool { return line == "alone" }, "alone")
			for _, r := range alive {
				if err := children[r].Wait(); err != nil {
					t.Errorf("rank %d: %v; %s", r, err, children[r].out.String())
				}
			}
		})
	}
}

// TestShrinkOutOfTime: a context that has ended already costs nobody anything.
func TestShrinkOutOfTime(t *testing.T) {
	comms := initWorld(t, blocks(2, 1), "127.0.0.1", Options{Transport: TransportTCP})
	comms[1].Abort(nil)
	<-comms[0].life.Done()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Minute))
	defer cancel()
	for _, c := range comms {
		if _, err := c.Shrink(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("rank %d: Shrink returned %v", c.Rank(), err)
		}
	}
	left := make([]*Comm, 2)
	each(t, comms, func(c *Comm) (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		left[c.Rank()], err = c.Shrink(ctx)
		return err
	})
	t.Cleanup(func() { closeAll(t, left) })
	if n := left[0].WorldSize(); n != 2 {
		t.Errorf("%d ranks are left", n)
	}
}

// TestShrinkAgain: a rank that has waited in vain comes again, and is not taken for two.
func TestShrinkAgain(t *testing.T) {
	for name, world := range map[string]func(t *testing.T, nodeOf []int) []*Comm{
		"goroutines": func(t *testing.T, nodeOf []int) []*Comm { return newWorld(t, nodeOf, Options{}) },
		"alone":      func(t *testing.T, _ []int) []*Comm { return newWorld(t, []int{0}, Options{}) },
	} {
		t.Run(name, func(t *testing.T) {
			comms := world(t, blocks(2, 1))
			comms[0].Abort(nil)
			for _, c := range comms {
				<-c.life.Done()
			}
			for range 2 {
				if len(comms) == 1 {
					break
				}
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				if _, err := comms[0].Shrink(ctx); !errors.Is(err, ErrTimeout) && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Shrink alone returned %v", err)
				}
				cancel()
			}
			left := make([]*Comm, len(comms))
			each(t, comms, func(c *Comm) (err error) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				left[c.Rank()], err = c.Shrink(ctx)
				return err
			})
			t.Cleanup(func() { closeAll(t, left) })
			each(t, left, func(c *Comm) error { return sums(t.Context(), c) })
		})
	}
}
