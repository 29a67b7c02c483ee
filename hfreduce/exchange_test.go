// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// TestExchangeOnAnyNumberOfNodes: small sums come out in the promised order on two to nine nodes, for ranks that only give and
// take and for those that exchange; in place and not, many in a row, with ranks that are late, and barriers between them; over
// memory, and over TCP with messages that leave late.
func TestExchangeOnAnyNumberOfNodes(t *testing.T) {
	for nodes := 2; nodes <= 9; nodes++ {
		for local := 1; local <= 2; local++ {
			nodeOf := blocks(nodes*local, nodes)
			t.Run(fmt.Sprintf("%dx%d/memory", nodes, local), func(t *testing.T) {
				t.Parallel()
				testExchanges(t, nodeOf, newWorld(t, nodeOf, Options{Checksum: nodes%2 == 0}))
			})
			if nodes <= 6 {
				t.Run(fmt.Sprintf("%dx%d/tcp", nodes, local), func(t *testing.T) {
					t.Parallel()
					o := Options{Transport: TransportTCP, Checksum: nodes%2 > 0, Fault: "delay=500us p=0.3"}
					testExchanges(t, nodeOf, initWorld(t, nodeOf, "127.0.0.1", o))
				})
			}
		}
	}
}

func testExchanges(t *testing.T, nodeOf []int, comms []*Comm) {
	most := int(comms[0].exchange.MaxBytes() / 4)
	if most < 1000 {
		t.Fatalf("there is no exchange: %d elements", most)
	}
	for i, count := range []int{1, 12, 1000, most} {
		for _, op := range []Op{Sum, Avg, PreMulSum(1)} {
			in := inputs(TypeFloat32, count, len(nodeOf), uint64(i))
			want := newOracle(t, nodeOf, TypeFloat32, op, factorOf).reduce(schedule.AllReduce, in, 4, -1)
			each(t, comms, func(c *Comm) error { return exchanges(t, c, in[c.Rank()], want, opOf(op, c.Rank())) })
		}
	}
}

// exchanges is what a rank does: sums in place and not, of which some are late.
func exchanges(t *testing.T, c *Comm, input, want []byte, op Op) error {
	for i := range 12 {
		in, out := bytes.Clone(input), make([]byte, len(input))
		if i%2 == 0 {
			out = in
		}
		for late := 0; i%5 == c.Rank()%5 && late < 100; late++ {
			runtime.Gosched() // the others run ahead as far as they can
		}
		if err := c.AllReduce(t.Context(), Bytes(out, TypeFloat32), Bytes(in, TypeFloat32), op); err != nil {
			return err
		}
		if !bytes.Equal(out, want) {
			return fmt.Errorf("call %d of %d bytes, %v: wrong", i, len(input), op)
		}
		if i%2 != 0 && !bytes.Equal(in, input) {
			return fmt.Errorf("call %d of %d bytes, %v: the input was written to", i, len(input), op)
		}
		for j := range in { // the caller's again
			in[j] ^= 0xff
		}
		if i%4 == 3 {
			if err := c.Barrier(t.Context()); err != nil {
				return err
			}
		}
	}
	return nil
}
