// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// redirecting is a transport whose links land messages elsewhere when they are told to, and spoil what lies in the
// landing area, so that a reader that looks there gets a wrong result.
type redirecting struct {
	transport.Transport
	asked, landed *atomic.Int64
	refuse        bool
}

func (r redirecting) Connect(ctx context.Context, peer int, key string, cfg transport.LinkConfig) (transport.Link, error) {
	l, err := r.Transport.Connect(ctx, peer, key, cfg)
	if err != nil {
		return nil, err
	}
	return &redirectingLink{Link: l, of: r, landings: cfg.Landings, elsewhere: map[[2]uint32][]byte{}}, nil
}

type redirectingLink struct {
	transport.Link
	of        redirecting
	landings  [][]byte
	elsewhere map[[2]uint32][]byte // by landing area and item
}

func (l *redirectingLink) Redirect(landing, seq uint32, area []byte) bool {
	l.of.asked.Add(1)
	if l.of.refuse {
		return false
	}
	l.elsewhere[[2]uint32{landing, seq}] = area
	return true
}

func (l *redirectingLink) Poll(ev []transport.Event) (int, error) {
	n, err := l.Link.Poll(ev)
	for _, e := range ev[:n] {
		key := [2]uint32{e.Landing, e.Seq}
		if area := l.elsewhere[key]; e.Kind == transport.Received && area != nil {
			delete(l.elsewhere, key)
			landed := l.landings[e.Landing][:e.Bytes]
			copy(area, landed)
			for i := range landed {
				landed[i] ^= 0x5a
			}
			l.of.landed.Add(1)
		}
	}
	return n, err
}

// TestResultsAreRedirected: with one rank on a node, every item's result lands in the buffer on all nodes but the tree's
// root; with several, or when the link refuses, none does. The sums are the same.
func TestResultsAreRedirected(t *testing.T) {
	const items = 8 // 4 for each tree; fewer are cut smaller
	for name, c := range map[string]struct {
		nodeOf        []int
		refuse        bool
		asked, landed int64
	}{
		"3x1":       {blocks(3, 3), false, 2 * items, 2 * items},
		"4x1":       {blocks(4, 4), false, 3 * items, 3 * items},
		"refusing":  {blocks(3, 3), true, 2 * items, 0},
		"3x2":       {blocks(6, 3), false, 0, 0},
		"exchanges": {blocks(2, 2), false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var asked, landed atomic.Int64
			comms := newWorldOver(t, c.nodeOf, func(_ int, inner transport.Transport) transport.Transport {
				return redirecting{inner, &asked, &landed, c.refuse}
			})
			const count = items * DefaultChunkBytes / 4
			inputs := make([][]byte, len(comms))
			for r := range inputs {
				inputs[r] = random(TypeFloat32, count, r, 11)
			}
			want := newOracle(t, c.nodeOf, TypeFloat32, Sum, nil).reduce(schedule.AllReduce, inputs, 4, -1)
			each(t, comms, func(c *Comm) error {
				for _, inPlace := range []bool{false, true} {
					in, out := bytes.Clone(inputs[c.Rank()]), make([]byte, count*4)
					if inPlace {
						out = in
					}
					if err := c.AllReduce(t.Context(), Bytes(out, TypeFloat32), Bytes(in, TypeFloat32), Sum); err != nil {
						return err
					}
					if !bytes.Equal(out, want) {
						t.Errorf("rank %d, in place %v: wrong result", c.Rank(), inPlace)
					}
				}
				return nil
			})
			if asked.Load() != 2*c.asked || landed.Load() != 2*c.landed {
				t.Errorf("%d results were to be redirected and %d were, want %d and %d", asked.Load(), landed.Load(), 2*c.asked, 2*c.landed)
			}
		})
	}
}
