// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// interrupted is a fabric that calls a function before this rank says that it has joined, and is slow to take the answer.
type interrupted struct {
	*processFabric
	joined func()
}

func (f *interrupted) exchange(ctx context.Context, key string, members []int, mine []byte) ([][]byte, error) {
	if strings.HasSuffix(key, "/joined") {
		f.joined()
		defer time.Sleep(100 * time.Millisecond)
	}
	return f.processFabric.exchange(ctx, key, members, mine)
}

// TestLossWhileBuilding: a rank is lost when the others have mapped their memory and listen, but have no communicator yet.
// What they report of it is judged, or not, when that memory is gone.
func TestLossWhileBuilding(t *testing.T) {
	comms := initWorld(t, blocks(3, 1), "127.0.0.1", Options{Transport: TransportTCP})
	for _, c := range comms {
		p := c.fabric.fabric.(*processFabric)
		f := &interrupted{p, func() {}}
		if c.Rank() == 2 {
			f.joined = func() { comms[1].fabric.fabric.(*interrupted).session.ReportGone(2, "it was shot") }
		}
		c.fabric.fabric = f
	}
	each(t, comms, func(c *Comm) error {
		if _, err := c.Split(t.Context(), 0, 0); !errors.Is(err, ErrPeerLost) {
			return fmt.Errorf("rank %d: Split returned %v", c.Rank(), err)
		}
		return nil
	})
	time.Sleep(verdictWait + 300*time.Millisecond)
}
