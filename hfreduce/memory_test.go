// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// TestMemoryIsReadInPlace reduces from shared memory, in and out of place, and mixes ranks that share with ranks that do
// not. The count of staged bytes shows that shared input is not copied.
func TestMemoryIsReadInPlace(t *testing.T) {
	const count = 20_000
	for name, nodeOf := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			comms := newWorld(t, nodeOf, smallChunks)
			in := inputs(TypeFloat32, count, len(comms), 8)
			oracle := newOracle(t, nodeOf, TypeFloat32, Sum, nil)
			want := oracle.reduce(schedule.AllReduce, in, 4, -1)
			each(t, comms, func(c *Comm) error {
				ctx := context.Background()
				m, err := c.Alloc(count*4 + 64)
				if err != nil {
					return err
				}
				defer m.Free()
				for _, sharing := range []string{"all", "odd ranks", "offset"} {
					buf := m.Bytes()[:count*4]
					switch {
					case sharing == "offset":
						buf = m.Bytes()[12 : 12+count*4]
					case sharing == "odd ranks" && c.Rank()%2 == 0:
						buf = make([]byte, count*4)
					}
					copy(buf, in[c.Rank()])
					dst := make([]byte, count*4)
					if err := c.AllReduce(ctx, Bytes(dst, TypeFloat32), Bytes(buf, TypeFloat32), Sum); err != nil {
						return err
					}
					if staged := c.Stats().StagedBytes; sharing == "all" && staged != 0 {
						return fmt.Errorf("%d bytes of shared input were copied", staged)
					}
					if err := same(sharing+" out of place", dst, want); err != nil {
						return err
					}
					if err := same(sharing+" source", buf, in[c.Rank()]); err != nil {
						return err
					}
					if err := c.AllReduce(ctx, Bytes(buf, TypeFloat32), Bytes(buf, TypeFloat32), Sum); err != nil {
						return err
					}
					if err := same(sharing+" in place", buf, want); err != nil {
						return err
					}
				}
				// Reduce returns early on ranks that get nothing: their memory must be free to change all the same.
				view := View[float32](m)[:count]
				for root := range c.WorldSize() {
					for i := range view {
						view[i] = float32(i%7 + root)
					}
					if err := c.Reduce(ctx, Host(view), Host(view), Sum, root); err != nil {
						return err
					}
					for i := range view {
						if c.Rank() == root && view[i] != float32((i%7+root)*c.WorldSize()) {
							return fmt.Errorf("Reduce to %d: element %d is %v", root, i, view[i])
						}
						view[i] = -1
					}
				}
				return nil
			})
		})
	}
}

func TestMemoryAccounting(t *testing.T) {
	comms := newWorld(t, []int{0}, Options{})
	c := comms[0]
	if _, err := c.Alloc(0); !errors.Is(err, ErrInvalid) {
		t.Fatalf("Alloc(0): %v", err)
	}
	m, err := c.Alloc(1000)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(View[float64](m)); n != 125 {
		t.Fatalf("View has %d elements, want 125", n)
	}
	for i, b := range m.Bytes() {
		if b != 0 {
			t.Fatalf("byte %d is not zero", i)
		}
	}
	if got := c.Stats().AllocatedBytes; got != 1000 {
		t.Fatalf("%d bytes allocated, want 1000", got)
	}
	if err := m.Free(); err != nil {
		t.Fatal(err)
	}
	if err := m.Free(); !errors.Is(err, ErrClosed) {
		t.Fatalf("second Free: %v", err)
	}
	if got := c.Stats().AllocatedBytes; got != 0 {
		t.Fatalf("%d bytes allocated after Free", got)
	}
}
