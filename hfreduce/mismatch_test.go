// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// verdictLayouts are the worlds in which verdicts are tested: a node, nodes of one rank, four and three of them, both, and three uneven nodes.
var verdictLayouts = map[string][]int{"1x4": blocks(4, 1), "2x2": blocks(4, 2), "4x1": blocks(4, 4), "3x1": blocks(3, 3), "uneven": {0, 1, 1, 2, 2, 2}}

// differences are what one rank does otherwise than all others, and how both sides are named.
var differences = []struct {
	name        string
	usual, odd  string
	call        func(c *Comm, odd bool) error
	oneSideOnly bool // the odd rank's program can end before the others are found out to wait
}{
	{"count", "AllReduce float[1000] sum", "AllReduce float[999] sum", func(c *Comm, odd bool) error {
		x := make([]float32, 1000)
		if odd {
			x = x[:999]
		}
		return c.AllReduce(context.Background(), Host(x), Host(make([]float32, len(x))), Sum)
	}, false},
	{"large count", "AllReduce float[1000000] sum", "AllReduce float[10] sum", func(c *Comm, odd bool) error {
		x := make([]float32, 1000000)
		if odd {
			x = x[:10]
		}
		return c.AllReduce(context.Background(), Host(x), Host(make([]float32, len(x))), Sum)
	}, false},
	{"type", "AllReduce float[1000] sum", "AllReduce int32[1000] sum", func(c *Comm, odd bool) error {
		x, y, d := make([]byte, 4000), make([]byte, 4000), TypeFloat32
		if odd {
			d = TypeInt32
		}
		return c.AllReduce(context.Background(), Bytes(x, d), Bytes(y, d), Sum)
	}, false},
	{"op", "AllReduce float[1000] sum", "AllReduce float[1000] max", func(c *Comm, odd bool) error {
		x, op := make([]float32, 1000), Sum
		if odd {
			op = Max
		}
		return c.AllReduce(context.Background(), Host(x), Host(make([]float32, 1000)), op)
	}, false},
	{"root", "Broadcast float[1000] root 0", "Broadcast float[1000] root 1", func(c *Comm, odd bool) error {
		x, root := make([]float32, 1000), 0
		if odd {
			root = 1
		}
		if err := c.Broadcast(context.Background(), Host(x), Host(x), root); err != nil {
			return err
		}
		return c.Barrier(context.Background()) // who waits for nobody ends its Broadcast before the others find out
	}, true},
	{"collective", "AllReduce float[1000] sum", "Reduce float[1000] sum root 0", func(c *Comm, odd bool) error {
		x, y := make([]float32, 1000), make([]float32, 1000)
		if odd { // gets no result, so it may return before the others find out
			if err := c.Reduce(context.Background(), Host(x), Host(y), Sum, 0); err != nil {
				return err
			}
			return c.Barrier(context.Background())
		}
		return c.AllReduce(context.Background(), Host(x), Host(y), Sum)
	}, true},
	{"one call more", "AllReduce float[1000] sum", "AllReduce float[0] sum", func(c *Comm, odd bool) error {
		x := make([]float32, 1000)
		if odd {
			if err := c.AllReduce(context.Background(), Host(x[:0]), Host(x[:0]), Sum); err != nil {
				return err
			}
		}
		return c.AllReduce(context.Background(), Host(x), Host(make([]float32, 1000)), Sum)
	}, false},
}

// TestMismatchNamesBothSides has one rank make another call, at every position: all ranks get the same ErrMismatch with both
// calls in it within a second, which is the time of the test's bubble.
func TestMismatchNamesBothSides(t *testing.T) {
	for _, d := range differences {
		for layout, nodeOf := range verdictLayouts {
			for odd := range nodeOf {
				if raceEnabled && d.name == "root" && nodeOf[odd] == nodeOf[0] {
					continue // both roots write to the slot, before anybody can know; what they wrote is never used
				}
				t.Run(fmt.Sprintf("%s/%s/rank%d", d.name, layout, odd), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						comms := newWorld(t, nodeOf, Options{Timeout: 5 * time.Minute, Checksum: odd != 0, VerifyResults: odd != 0})
						begin := time.Now()
						errs := failTogether(t, comms, ErrMismatch, "collective 1: ", func(c *Comm) error { return d.call(c, c.Rank() == odd) })
						if took := time.Since(begin); took > time.Second {
							t.Errorf("it took %v", took)
						}
						fault := sameFault(t, errs)
						for _, want := range []string{d.usual, fmt.Sprintf("rank %d: %s", odd, d.odd)} {
							if !strings.Contains(fault.Text, want) {
								t.Errorf("%q does not name %q", fault.Text, want)
							}
						}
						// Ranks that had not made the call by then are on no side, so there may be no majority.
						if !slices.ContainsFunc(fault.Culprits, func(c Culprit) bool { return c.Rank == odd }) {
							t.Errorf("the culprits are %+v, without rank %d", fault.Culprits, odd)
						}
					})
				})
			}
		}
	}
}

// TestMismatchThatLooksLikeAFault: different calls may show as a message that is too long for the user's buffer, in which it was
// to land, which breaks the link, or as one from a rank that should send none.
func TestMismatchThatLooksLikeAFault(t *testing.T) {
	call := func(c *Comm, bytes, root int) error {
		x := make([]byte, bytes)
		if err := c.Broadcast(context.Background(), Host(x), Host(x), root); err != nil {
			return err
		}
		return c.Barrier(context.Background())
	}
	t.Run("count", func(t *testing.T) {
		comms := initWorld(t, blocks(3, 3), "127.0.0.1", Options{Transport: TransportTCP})
		sameFault(t, failTogether(t, comms, ErrMismatch, "collective 1: ", func(c *Comm) error {
			return call(c, []int{100_000, 90_000, 100_000}[c.Rank()], 0)
		}))
	})
	for odd := range 5 {
		if raceEnabled {
			break // what two roots send may land in one area, before anybody can know; it is never used
		}
		t.Run(fmt.Sprint("root/rank", odd), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				comms := newWorld(t, blocks(5, 5), Options{ChunkBytes: 8192})
				sameFault(t, failTogether(t, comms, ErrMismatch, "collective 1: ", func(c *Comm) error {
					root := 0
					if c.Rank() == odd {
						root = 1
					}
					return call(c, 150_000, root)
				}))
			})
		})
	}
}

// sameFault returns the fault that all errors wrap, and fails the test if they wrap different ones.
func sameFault(t *testing.T, errs []error) *FaultError {
	t.Helper()
	faults := make([]*FaultError, len(errs))
	for r, err := range errs {
		if !errors.As(err, &faults[r]) {
			t.Fatalf("rank %d: %v is no FaultError", r, err)
		}
		if a, b := faults[0], faults[r]; a.Text != b.Text || a.Err != b.Err || !slices.Equal(a.Culprits, b.Culprits) {
			t.Errorf("ranks were told different things:\nrank 0: %v, %+v\nrank %d: %v, %+v", a, a.Culprits, r, b, b.Culprits)
		}
	}
	return faults[0]
}

// TestInPlaceMayDiffer: a rank that reduces in place and one that does not make the same call.
func TestInPlaceMayDiffer(t *testing.T) {
	for layout, nodeOf := range verdictLayouts {
		for _, n := range []int{10, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", layout, n), func(t *testing.T) {
				comms := newWorld(t, nodeOf, Options{})
				each(t, comms, func(c *Comm) error {
					x, y := make([]float32, n), make([]float32, n)
					x[0], x[n-1] = 1, 2
					if c.Rank() == 1 {
						y = x
					}
					if err := c.AllReduce(t.Context(), Host(y), Host(x), Sum); err != nil {
						return err
					}
					if ranks := float32(c.WorldSize()); y[0] != ranks || y[n-1] != 2*ranks {
						return fmt.Errorf("the result is %v..%v", y[0], y[n-1])
					}
					return nil
				})
			})
		}
	}
}

// TestCommunicatorsInDifferentOrders: two ranks call two communicators in opposite orders and wait for each other, each in
// another one. It cannot be told from two goroutines of which one is slow, so it takes Timeout.
func TestCommunicatorsInDifferentOrders(t *testing.T) {
	for layout, nodeOf := range verdictLayouts {
		for odd := range nodeOf {
			t.Run(fmt.Sprintf("%s/rank%d", layout, odd), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					comms := newWorld(t, nodeOf, Options{Timeout: 5 * time.Second})
					subs := make([]*Comm, len(comms))
					each(t, comms, func(c *Comm) (err error) {
						subs[c.Rank()], err = c.Split(t.Context(), 0, 0)
						return err
					})
					begin := time.Now()
					errs := failTogether(t, comms, ErrMismatch, "in different orders", func(c *Comm) error {
						x := make([]float32, 100)
						if c.Rank() == odd {
							return subs[odd].AllReduce(t.Context(), Host(x), Host(x), Sum)
						}
						return c.Barrier(t.Context())
					})
					if took := time.Since(begin); took > 6*time.Second {
						t.Errorf("it took %v", took)
					}
					for r, err := range errs {
						for _, want := range []string{fmt.Sprintf("rank %d ", odd), "AllReduce float[100] sum in place", "Barrier"} {
							if !strings.Contains(err.Error(), want) {
								t.Errorf("rank %d: %v does not name %s", r, err, want)
							}
						}
					}
					closeAll(t, subs)
				})
			})
		}
	}
}

// TestSignatureOfABarrier: it has no elements of any type.
func TestSignatureOfABarrier(t *testing.T) {
	k, _ := new(Comm).barrier()
	if got := k.String(); got != "Barrier" {
		t.Errorf("a barrier is called %q", got)
	}
}
