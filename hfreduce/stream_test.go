// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// TestLargeOutOfPlace: outputs that are so large that they are written past the caches are right, wherever they begin and
// end, and nothing around them is written.
func TestLargeOutOfPlace(t *testing.T) {
	const d, count = TypeFloat32, 600_001
	for name, nodeOf := range layouts {
		if raceEnabled && name != "1x4" && name != "3x1" && name != "2x2" {
			continue // the others show the race detector nothing new, and its memory for their buffers takes half a minute
		}
		t.Run(name, func(t *testing.T) {
			comms := newWorld(t, nodeOf, Options{})
			in := inputs(d, count, len(comms), 9)
			sum := newOracle(t, nodeOf, d, Sum, nil).reduce(schedule.AllReduce, in, d.Size(), -1)
			each(t, comms, func(c *Comm) error {
				src := Bytes(in[c.Rank()], d)
				calls := []struct {
					what string
					want []byte
					run  func(dst Buffer) error
				}{
					{"AllReduce", sum, func(dst Buffer) error { return c.AllReduce(t.Context(), dst, src, Sum) }},
					{"Broadcast", in[0], func(dst Buffer) error { return c.Broadcast(t.Context(), dst, src, 0) }},
					{"AllGather", bytes.Join(in, nil), func(dst Buffer) error { return c.AllGather(t.Context(), dst, src) }},
				}
				for _, call := range calls {
					for _, shift := range []int{64, 68, 124} {
						whole := bytes.Repeat([]byte{0xa5}, shift+len(call.want)+64)
						if err := call.run(Bytes(whole[shift:shift+len(call.want)], d)); err != nil {
							return err
						}
						want := bytes.Repeat([]byte{0xa5}, len(whole))
						copy(want[shift:], call.want)
						if err := same(fmt.Sprintf("%s, shifted by %d, and around it", call.what, shift), whole, want); err != nil {
							return err
						}
					}
				}
				return nil
			})
		})
	}
}
