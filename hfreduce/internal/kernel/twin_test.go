// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// pool is random memory from which sources are cut, at any address and without copying them.
type pool struct{ mem, copy []byte }

// newPool fills size bytes in the manner of fill. It repeats itself, after a number of bytes that is odd so that a block read
// from a wrong place still shows.
func newPool(t DType, mode, size int) pool {
	const period = 30_011 // elements
	some := fill(rand.New(rand.NewPCG(uint64(t), uint64(mode))), t, period, mode)
	mem := bytes.Repeat(some, size/len(some)+1)[:size]
	return pool{mem, bytes.Clone(mem)}
}

func (p pool) intact() bool { return bytes.Equal(p.mem, p.copy) }

const twinBytes = 1 << 20 // the largest buffer

// drawTwinCount draws a number of elements of size bytes: few, or some more or less than blocks that a backend may hand to
// assembly in one call. The more sources, the fewer blocks: they are slow under the race detector.
func drawTwinCount(t *rapid.T, size, sources int) int {
	const block = 64 << 10
	most := min(twinBytes/block-1, max(3, 40/sources))
	few := rapid.IntRange(0, 5000)
	edge := rapid.Custom(func(t *rapid.T) int {
		blocks := rapid.IntRange(1, most).Draw(t, "blocks")
		return blocks*block/size + rapid.IntRange(-70, 70).Draw(t, "beside")
	})
	return rapid.OneOf(few, few, few, few, edge).Draw(t, "count")
}

// drawTwin draws a call with sources from the pools of a mode, one for what is narrow and one for what is wide. Its outputs
// are left out.
func drawTwin(t *rapid.T, d DType, narrow, wide []pool) (s Spec, count int, srcs [][]byte, scales []float64) {
	n := rapid.IntRange(1, 12).Draw(t, "sources")
	s = drawSpec(t, Spec{DType: d, Op: rapid.SampledFrom([]Op{Sum, Prod, Max, Min}).Draw(t, "op")}, n)
	mode := rapid.IntRange(0, len(narrow)-1).Draw(t, "mode")
	size := d.Size()
	if accumulatesWide(d) {
		size = Float32.Size() // so that wide ones fit, too
	}
	count = drawTwinCount(t, size, n)
	for j := range n {
		from := narrow[mode].mem
		if sourceType(s, j, n) != d {
			from = wide[mode].mem
		}
		size := count * sourceType(s, j, n).Size()
		at := rapid.IntRange(0, len(from)-size).Draw(t, "at")
		srcs = append(srcs, from[at:][:size])
	}
	return s, count, srcs, drawScales(t, n)
}

// TestBackendsAgree holds every backend against the generic one, which is fast enough for buffers that the reference is too
// slow for.
func TestBackendsAgree(t *testing.T) {
	wide := []pool{newPool(Float32, 0, 2*twinBytes), newPool(Float32, 1, 2*twinBytes)}
	eachBackend(t, func(t *testing.T, b Backend) {
		for d := range DType(len(dtypes)) {
			if b == Generic {
				break // it would be held against itself
			}
			t.Run(d.String(), func(t *testing.T) {
				narrow := []pool{newPool(d, 0, 2*twinBytes), newPool(d, 1, 2*twinBytes)}
				checkTwins(t, b, d, narrow, wide)
				for _, p := range append(narrow, wide...) {
					if !p.intact() {
						t.Error("a source changed")
					}
				}
			})
		}
	})
}

func checkTwins(t *testing.T, b Backend, d DType, narrow, wide []pool) {
	want := make([]byte, twinBytes)
	dst, dst2 := make([]byte, twinBytes+lineBytes), make([]byte, twinBytes+lineBytes)
	rapid.Check(t, func(t *rapid.T) {
		s, count, srcs, scales := drawTwin(t, d, narrow, wide)
		out := outputType(s)
		size := count * out.Size()
		one := dst[rapid.IntRange(0, lineBytes-1).Draw(t, "dst at"):][:size]
		two := dst2[rapid.IntRange(0, lineBytes-1).Draw(t, "dst2 at"):][:size]
		s.ReduceOn(Generic, want[:size], nil, srcs, scales)
		s.ReduceOn(b, one, two, srcs, scales)
		if i := differs(out, one, want[:size]); i >= 0 {
			t.Fatalf("%+v: element %d is %#x, want %#x", s, i, element(out, one, i), element(out, want, i))
		}
		if !bytes.Equal(one, two) {
			t.Fatalf("%+v: second output differs from the first", s)
		}
	})
}

// TestReduceDuringCollection runs reductions side by side, on the heap and on stacks that grow and shrink, while the garbage
// collector stops them again and again: a backend must keep nothing where the collector looks for pointers.
func TestReduceDuringCollection(t *testing.T) {
	eachBackend(t, func(t *testing.T, b Backend) {
		var done atomic.Bool
		var workers sync.WaitGroup
		for w := range 4 {
			workers.Go(func() { reduceUntil(t, &done, b, w) })
		}
		for range 15 {
			runtime.GC()
		}
		done.Store(true)
		workers.Wait()
	})
}

// reduceUntil runs small and big reductions whose results are known.
func reduceUntil(t *testing.T, done *atomic.Bool, b Backend, worker int) {
	src := newPool(Int32, 0, 300<<10+4*worker)
	want, got := make([]byte, len(src.mem)), make([]byte, len(src.mem))
	for i, v := range view[int32](src.mem) {
		view[int32](want)[i] = 3 * v
	}
	for round := 0; !done.Load(); round++ {
		clear(got)
		Spec{DType: Int32, StreamDst: round%2 == 0}.ReduceOn(b, got, nil, [][]byte{src.mem, src.mem, src.mem}, nil)
		if !bytes.Equal(got, want) {
			t.Errorf("worker %d, round %d: wrong sums", worker, round)
			return
		}
		for size := 0; size < 800; size += 8 {
			if !reduceOnStack(b, size, worker, worker) {
				t.Errorf("worker %d, round %d: wrong sum of %d bytes", worker, round, size)
				return
			}
		}
	}
}

// reduceOnStack descends, so that the stack grows and is moved, and sums bytes that stand on it.
func reduceOnStack(b Backend, size, worker, depth int) bool {
	if depth > 0 {
		var room [2048]byte
		room[size] = byte(depth)
		return reduceOnStack(b, size, worker, depth-1) && room[size] == byte(depth)
	}
	var x, sum, sum2 [800]byte
	for i := range size {
		x[i] = byte(i*7 + worker)
	}
	srcs := [...][]byte{x[:size], x[:size], x[:size]}
	Spec{}.ReduceOn(b, sum[:size], sum2[:size], srcs[:], nil)
	for i := range sum {
		if sum[i] != 3*x[i] {
			return false
		}
	}
	return sum == sum2
}
