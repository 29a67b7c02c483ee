// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// blocks returns the node of each of np ranks that are spread over nodes in contiguous, nearly equal blocks.
func blocks(np, nodes int) []int {
	nodeOf := make([]int, np)
	for r := range nodeOf {
		nodeOf[r] = r * nodes / np
	}
	return nodeOf
}

// layouts are the worlds that most tests run on: one node, one rank a node, uneven nodes, ranks that are not contiguous.
var layouts = map[string][]int{
	"1x1":     {0},
	"1x4":     blocks(4, 1),
	"2x1":     blocks(2, 2),
	"3x1":     blocks(3, 3),
	"2x2":     blocks(4, 2),
	"5on2":    blocks(5, 2),
	"strided": {0, 1, 0, 1, 2, 2, 0},
	"4x2":     blocks(8, 4),
}

// newWorld returns the communicators of an in-process world, which are closed at the end of the test.
func newWorld(t testing.TB, nodeOf []int, o Options) []*Comm {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.CUDA == "" {
		o.CUDA = CUDAOff // other tests may have loaded it
	}
	comms, err := NewLocal(nodeOf, checked(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, comms) })
	return comms
}

// checked turns on what HFREDUCE_CHECKSUM and HFREDUCE_VERIFY_RESULTS say, as Init does, so that the tests can be run with it.
func checked(o Options) Options {
	o.Checksum = o.Checksum || os.Getenv("HFREDUCE_CHECKSUM") == "1"
	o.VerifyResults = o.VerifyResults || os.Getenv("HFREDUCE_VERIFY_RESULTS") == "1"
	return o
}

// newWorldOver is newWorld with each rank's transport wrapped.
func newWorldOver(t *testing.T, nodeOf []int, wrap func(rank int, inner transport.Transport) transport.Transport) []*Comm {
	t.Helper()
	return newWorldOverWith(t, nodeOf, Options{CUDA: CUDAOff}, wrap)
}

// newWorldOverWith is newWorldOver with options.
func newWorldOverWith(t *testing.T, nodeOf []int, o Options, wrap func(rank int, inner transport.Transport) transport.Transport) []*Comm {
	t.Helper()
	o = checked(o)
	o.WorldSize, o.Timeout, o.Logger = len(nodeOf), 30*time.Second, slog.New(slog.DiscardHandler)
	o.defaults()
	w := newLocalWorld(nodeOf)
	comms, members := make([]*Comm, len(nodeOf)), make([]int, len(nodeOf))
	for r := range members {
		members[r] = r
	}
	errs := make(chan error, len(nodeOf))
	for r := range nodeOf {
		f := &sharedFabric{fabric: &localFabric{world: w, self: r, transport_: wrap(r, w.network.Transport(r))}}
		go func() {
			var err error
			comms[r], err = newComm(context.Background(), f, o, worldKey, members, r)
			errs <- err
		}()
	}
	for range nodeOf {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { closeAll(t, comms) })
	return comms
}

func closeAll(t testing.TB, comms []*Comm) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range comms {
		wg.Go(func() {
			if err := c.Close(ctx); err != nil && !errors.Is(err, ErrClosed) {
				t.Errorf("close rank %d: %v", c.Rank(), err)
			}
		})
	}
	wg.Wait()
}

// each calls f for every rank at the same time and fails the test with the first error.
func each(t testing.TB, comms []*Comm, f func(c *Comm) error) {
	t.Helper()
	errs := make([]error, len(comms))
	var wg sync.WaitGroup
	for r, c := range comms {
		wg.Go(func() { errs[r] = f(c) })
	}
	wg.Wait()
	for r, err := range errs {
		if err != nil {
			t.Fatalf("rank %d: %v", r, err)
		}
	}
}

// random returns count elements of reproducible random data: any bits for integers, normal numbers of a few magnitudes
// for floats, so that every order of summation gives other bits.
func random(d DataType, count, rank int, seed uint64) []byte {
	rng := rand.NewPCG(seed, uint64(rank))
	b := make([]byte, count*d.Size())
	for i := range count {
		bits := rng.Uint64()
		v := float32(int32(bits)) / (1 << 30) * float32(uint32(1)<<(bits>>61)) // +-2 times 1..128
		put(d, b[i*d.Size():], v/8, bits)
	}
	return b
}

// put writes one element: v for floats, bits for integers.
func put(d DataType, b []byte, v float32, bits uint64) {
	switch d {
	case TypeFloat32:
		bits = uint64(math.Float32bits(v))
	case TypeFloat64:
		bits = math.Float64bits(float64(v) / 3)
	case TypeFloat16:
		bits = uint64(ToFloat16(v))
	case TypeBFloat16:
		bits = uint64(ToBFloat16(v))
	case TypeFloat8E4M3:
		bits = uint64(ToFloat8E4M3(v))
	case TypeFloat8E5M2:
		bits = uint64(ToFloat8E5M2(v))
	}
	for i := range d.Size() {
		b[i] = byte(bits >> (8 * i))
	}
}

// oracle computes reductions in the documented order, one element range after the other, without chunks, slots or
// messages.
type oracle struct {
	layout schedule.Layout
	spec   kernel.Spec
	scales []float64 // by rank, nil when not scaled
	mean   bool      // what nodes pass on are means
}

// add adds parts, of which each covers some ranks.
func (o *oracle) add(spec kernel.Spec, dst []byte, srcs [][]byte, scales []float64, ranks []int) (covered int) {
	for _, n := range ranks {
		covered += n
	}
	if o.mean {
		scales = nil
		for _, n := range ranks {
			scales = append(scales, float64(n)/float64(covered))
		}
	}
	spec.Reduce(dst, nil, srcs, scales)
	return covered
}

func newOracle(t testing.TB, nodeOf []int, d DataType, op Op, factor func(rank int) float64) *oracle {
	l, err := schedule.NewLayout(nodeOf)
	if err != nil {
		t.Fatal(err)
	}
	o := &oracle{layout: l, spec: kernel.Spec{DType: kernel.DType(d), Op: op.kernelOp()}}
	switch narrow := d == TypeFloat16 || d == TypeFloat8E4M3 || d == TypeFloat8E5M2; {
	case op.kind == opAvg && narrow && len(l.Nodes) > 1:
		o.mean = true
	case op.kind == opAvg:
		o.spec.Divisor = len(nodeOf)
	}
	if op.kind == opPreMulSum {
		for r := range nodeOf {
			o.scales = append(o.scales, factor(r))
		}
	}
	return o
}

// inputs returns what node v's ranks give, and their scales.
func (o *oracle) inputs(v int, inputs [][]byte, lo, hi int64) (srcs [][]byte, scales []float64, ranks []int) {
	for _, r := range o.layout.Nodes[v] {
		srcs, ranks = append(srcs, inputs[r][lo:hi]), append(ranks, 1)
		if o.scales != nil {
			scales = append(scales, o.scales[r])
		}
	}
	return srcs, scales, ranks
}

// sum returns the reduction of inputs[rank][lo:hi] over a tree, as node v passes it to its parent, and how many ranks it covers.
func (o *oracle) sum(tree schedule.Tree, v int, inputs [][]byte, lo, hi int64) ([]byte, int) {
	srcs, scales, ranks := o.inputs(v, inputs, lo, hi)
	child, n := tree.Children(v)
	for _, c := range child[:n] {
		part, covered := o.sum(tree, c, inputs, lo, hi)
		srcs, ranks = append(srcs, part), append(ranks, covered)
		if o.scales != nil {
			scales = append(scales, 1)
		}
	}
	spec := o.spec
	if v != tree.Root() {
		spec.Divisor = 0
	}
	dst := make([]byte, hi-lo)
	return dst, o.add(spec, dst, srcs, scales, ranks)
}

// reduce returns what AllReduce or Reduce gives.
func (o *oracle) reduce(c schedule.Collective, inputs [][]byte, elem, root int) []byte {
	x := schedule.NewExchange(&o.layout)
	if x.Takes(c, int64(len(inputs[0]))) || c == schedule.AllReduce && len(o.layout.Nodes) == 2 {
		return o.exchange(inputs)
	}
	var out []byte
	plan := schedule.NewPlan(&o.layout, c, int64(len(inputs[0])), elem, root)
	for f := range plan.Flows() {
		flow := plan.Flow(f)
		part, _ := o.sum(flow.Tree, flow.Tree.Root(), inputs, flow.Offset, flow.Offset+flow.Bytes)
		out = append(out, part...)
	}
	return out
}

// exchange adds each node's inputs, then pairs of nodes, pairs of pairs and so on; before that, where the nodes are no power of
// two, as many pairs of the first ones as leave one.
func (o *oracle) exchange(inputs [][]byte) []byte {
	bytes := int64(len(inputs[0]))
	partial := o.spec
	partial.Divisor = 0
	var parts [][]byte
	var covers []int
	for v := range o.layout.Nodes {
		sum := make([]byte, bytes)
		srcs, scales, ranks := o.inputs(v, inputs, 0, bytes)
		covers = append(covers, o.add(partial, sum, srcs, scales, ranks))
		parts = append(parts, sum)
	}
	pairs := func(spec kernel.Spec, n int) {
		for i := range n {
			sum := make([]byte, bytes)
			covers[i] = o.add(spec, sum, parts[2*i:2*i+2], nil, covers[2*i:2*i+2])
			parts[i] = sum
		}
		parts, covers = append(parts[:n], parts[2*n:]...), append(covers[:n], covers[2*n:]...)
	}
	power := 1
	for power*2 <= len(parts) {
		power *= 2
	}
	pairs(partial, len(parts)-power)
	for ; len(parts) > 2; power /= 2 {
		pairs(partial, power/2)
	}
	pairs(o.spec, 1)
	return parts[0]
}

// scatter returns rank's block of what ReduceScatter gives.
func (o *oracle) scatter(inputs [][]byte, elem, rank int) []byte {
	block := int64(len(inputs[0]) / len(inputs))
	node := o.layout.NodeOf(rank)
	plan := schedule.NewPlan(&o.layout, schedule.ReduceScatter, block, elem, -1)
	part, _ := o.sum(plan.Flow(node).Tree, node, inputs, int64(rank)*block, int64(rank+1)*block)
	return part
}

func allOps() []Op { return []Op{Sum, Prod, Max, Min, Avg, PreMulSum(1)} }

// factorOf is the PreMulSum factor of a rank.
func factorOf(rank int) float64 { return float64(rank%3) + 1 }

// opOf is op as a rank calls it.
func opOf(op Op, rank int) Op {
	if op.kind == opPreMulSum {
		return PreMulSum(factorOf(rank))
	}
	return op
}

func same(what string, got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("%s: byte %d of %d is %#x, want %#x", what, i, len(want), got[i], want[i])
		}
	}
	return nil
}
