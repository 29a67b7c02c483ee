// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/internal/fakecuda"
	"github.com/hfreduce/hfreduce/internal/testreq"
)

// The tests of this file, and of those whose names begin with device_, run on the fake CUDA library of testdata/fakecuda, or
// on a real GPU (make test-gpu).

// gpuRank is what a rank of a test uses its GPU with.
type gpuRank struct {
	*cuda.Device
	stream cuda.Stream
	pinned *cuda.HostMemory
	memory cuda.Ptr // of size; to free it during collectives would wait for those of other ranks of this process
	size   int64
	used   int64
	word   cuda.Word // a producer waits for it (hold)
	held   uint32
	list   cuda.Commands
}

// roomy is what a rank of most tests has of memory: of the GPU for its buffers, and pinned for one of them.
const roomy = 16 << 20

// needCUDA returns the number of GPUs, and skips the test where there is no CUDA library, not even the fake one.
func needCUDA(t testing.TB) int {
	t.Helper()
	fakecuda.Need(t)
	if err := cuda.Available(); err != nil {
		if strings.Contains(err.Error(), "without cgo") {
			testreq.Missing(t, "cuda", err.Error())
		}
		t.Fatal(err)
	}
	n, err := cuda.DeviceCount()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// openGPURank opens a GPU, with so many bytes.
func openGPURank(ordinal int, bytes int64) (g *gpuRank, err error) {
	g = &gpuRank{size: bytes}
	if g.Device, err = cuda.Open(ordinal); err != nil {
		return nil, err
	}
	if g.pinned, err = g.HostAlloc(bytes + 64); err != nil {
		return nil, err
	}
	if g.word, err = g.pinned.Word(0); err != nil {
		return nil, err
	}
	if g.memory, err = g.Malloc(bytes); err != nil {
		return nil, err
	}
	g.stream, err = g.NewStream(false)
	return g, err
}

// close gives back what openGPURank took.
func (g *gpuRank) close() error {
	return errors.Join(g.DestroyStream(g.stream), g.pinned.Close(), g.Free(g.memory))
}

// ranksPerGPU is how many ranks of one process may share a real GPU: their streams wait for each other, and the driver has few
// queues for copies, in which others then stand behind them (docs/gpu.md). Five hung on an H200, four once.
const ranksPerGPU = 2

// fourRanks is a world of four ranks on two nodes, or of two where four would share a real GPU.
func fourRanks(t testing.TB) []int {
	t.Helper()
	if gpus := needCUDA(t); fakecuda.Real() && 4 > gpus*ranksPerGPU {
		return blocks(2, 2)
	}
	return blocks(4, 2)
}

// newGPUWorld is newWorld with a GPU for each rank, several ranks sharing one where there are not enough.
func newGPUWorld(t testing.TB, nodeOf []int, o Options) ([]*Comm, []*gpuRank) {
	t.Helper()
	return newGPUWorldOf(t, nodeOf, o, roomy)
}

// newGPUWorldOf is newGPUWorld with so many bytes for each rank.
func newGPUWorldOf(t testing.TB, nodeOf []int, o Options, bytes int64) ([]*Comm, []*gpuRank) {
	t.Helper()
	gpus := needCUDA(t)
	if fakecuda.Real() && len(nodeOf) > gpus*ranksPerGPU {
		testreq.Missing(t, "gpus", fmt.Sprintf("%d ranks of one process on %d GPUs", len(nodeOf), gpus))
	}
	o.CUDA = CUDAOn
	ranks := make([]*gpuRank, len(nodeOf))
	for r := range ranks {
		g, err := openGPURank(r%gpus, bytes)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := g.close(); err != nil {
				t.Error(err)
			}
		})
		ranks[r] = g
	}
	return newWorld(t, nodeOf, o), ranks
}

// smallDeviceChunks make short buffers go through the whole ring several times, and GPUs get chunks in groups.
var smallDeviceChunks = Options{ChunkBytes: 4096, Slots: 4, DeviceChunkBytes: 4096, DeviceSlots: 8}

// room returns device memory.
func (g *gpuRank) room(bytes int) (cuda.Ptr, error) {
	p := g.memory + cuda.Ptr(g.used)
	if g.used += (int64(bytes) + 63) / 64 * 64; g.used > g.size {
		return 0, fmt.Errorf("the test uses more than %d bytes of device memory", g.size)
	}
	return p, nil
}

// put returns device memory that holds b.
func (g *gpuRank) put(b []byte) (cuda.Ptr, error) {
	p, err := g.room(len(b))
	if err != nil || len(b) == 0 {
		return p, err
	}
	copy(g.pinned.Bytes()[64:], b)
	g.list.Reset()
	g.list.Copy(g.stream, p, g.pinned.HostPtr(64), int64(len(b)), cuda.ToDevice)
	if err := g.Run(&g.list); err != nil {
		return 0, err
	}
	return p, g.Synchronize(g.stream) // the pinned memory is used again
}

// get returns what device memory holds, in the order of the stream.
func (g *gpuRank) get(p cuda.Ptr, bytes int) ([]byte, error) {
	g.list.Reset()
	if bytes > 0 {
		g.list.Copy(g.stream, g.pinned.HostPtr(64), p, int64(bytes), cuda.ToHost)
	}
	if err := g.Run(&g.list); err != nil {
		return nil, err
	}
	if err := g.Synchronize(g.stream); err != nil {
		return nil, err
	}
	return slices.Clone(g.pinned.Bytes()[64 : 64+bytes]), nil
}

// on calls f with device memory that holds b, and returns what it holds then, in the order of the stream. f gives the request
// that it has started, nil if it has waited itself.
func (g *gpuRank) on(b []byte, f func(p cuda.Ptr) (*Request, error)) ([]byte, error) {
	p, err := g.put(b)
	if err != nil {
		return nil, err
	}
	r, err := f(p)
	if err != nil {
		return nil, err
	}
	got, err := g.get(p, len(b))
	if err == nil && r != nil {
		err = r.Wait(context.Background())
	}
	g.used = int64(p - g.memory)
	return got, err
}

// expect is on that compares.
func (g *gpuRank) expect(what string, b, want []byte, f func(p cuda.Ptr) (*Request, error)) error {
	got, err := g.on(b, f)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return same(what, got, want)
}

// needHold skips the test where streams cannot be held.
func (g *gpuRank) needHold(t testing.TB) {
	if !g.Properties().MemoryOperations {
		testreq.Missing(t, "memops", "the tests' way to hold a stream")
	}
}

// hold keeps the stream from going on until let go.
func (g *gpuRank) hold() error {
	g.held++
	g.list.Reset()
	g.list.Wait(g.stream, g.word, g.held)
	return g.Run(&g.list)
}

func (g *gpuRank) letGo() { atomic.StoreUint32(g.word.Host, g.held) }

// eachDeviceCase runs f for layouts, data types, operators and counts, with GPUs: fewer than forEachCase, since the sums are
// the same, and what the fake copies takes its time.
func eachDeviceCase(t *testing.T, ops []Op, f func(t *testing.T, comms []*Comm, gpus []*gpuRank, nodeOf []int, d DataType, op Op, count int)) {
	worlds, sizes := []string{"1x1", "1x4", "2x1", "5on2", "strided"}, []int{0, 7, 1000, 12345}
	if raceEnabled {
		worlds = []string{"1x1", "1x4", "5on2"} // the others show the race detector nothing new
	}
	if testing.Short() {
		worlds, sizes = []string{"1x4", "5on2"}, []int{7, 12345}
	}
	if fakecuda.Real() {
		worlds = append(worlds, "1x2") // that one GPU is enough for
	}
	for _, name := range worlds {
		t.Run(name, func(t *testing.T) {
			nodeOf := layouts[name]
			if name == "1x2" {
				nodeOf = blocks(2, 1)
			}
			comms, gpus := newGPUWorld(t, nodeOf, smallDeviceChunks)
			for _, d := range []DataType{TypeInt64, TypeBFloat16} {
				for _, op := range ops {
					for _, count := range sizes {
						f(t, comms, gpus, nodeOf, d, op, count)
					}
				}
			}
		})
	}
}

func TestDeviceAllReduceMatchesOracle(t *testing.T) {
	eachDeviceCase(t, []Op{Sum, PreMulSum(1)}, func(t *testing.T, comms []*Comm, gpus []*gpuRank, nodeOf []int, d DataType, op Op, count int) {
		in := inputs(d, count, len(comms), 1)
		want := newOracle(t, nodeOf, d, op, factorOf).reduce(schedule.AllReduce, in, d.Size(), -1)
		each(t, comms, func(c *Comm) error {
			g, what := gpus[c.Rank()], fmt.Sprintf("%v %v[%d]", op, d, count)
			src, err := g.put(in[c.Rank()])
			if err != nil {
				return err
			}
			if err := g.expect(what, make([]byte, len(want)), want, func(dst cuda.Ptr) (*Request, error) {
				return nil, c.AllReduce(t.Context(), Device(dst, count, d, g.stream), Device(src, count, d, g.stream), opOf(op, c.Rank()))
			}); err != nil {
				return err
			}
			g.used = 0
			return g.expect(what+" in place", in[c.Rank()], want, func(p cuda.Ptr) (*Request, error) {
				return c.AllReduceAsync(Device(p, count, d, g.stream), Device(p, count, d, g.stream), opOf(op, c.Rank()))
			})
		})
	})
}

func TestDeviceReduceMatchesOracle(t *testing.T) {
	eachDeviceCase(t, []Op{Sum}, func(t *testing.T, comms []*Comm, gpus []*gpuRank, nodeOf []int, d DataType, op Op, count int) {
		in := inputs(d, count, len(comms), 2)
		for _, root := range []int{0, len(comms) - 1} {
			want := newOracle(t, nodeOf, d, op, factorOf).reduce(schedule.Reduce, in, d.Size(), root)
			each(t, comms, func(c *Comm) error {
				g, after := gpus[c.Rank()], in[c.Rank()]
				if c.Rank() == root {
					after = want
				}
				return g.expect(fmt.Sprintf("%v %v[%d] root %d", op, d, count, root), in[c.Rank()], after, func(p cuda.Ptr) (*Request, error) {
					return c.ReduceAsync(Device(p, count, d, g.stream), Device(p, count, d, g.stream), op, root)
				})
			})
		}
	})
}

func TestDeviceBroadcastReachesAll(t *testing.T) {
	eachDeviceCase(t, []Op{Sum}, func(t *testing.T, comms []*Comm, gpus []*gpuRank, nodeOf []int, d DataType, _ Op, count int) {
		in := inputs(d, count, len(comms), 3)
		for _, root := range []int{0, len(comms) - 1} {
			each(t, comms, func(c *Comm) error {
				g := gpus[c.Rank()]
				return g.expect(fmt.Sprintf("%v[%d] root %d", d, count, root), in[c.Rank()], in[root], func(p cuda.Ptr) (*Request, error) {
					return c.BroadcastAsync(Device(p, count, d, g.stream), Device(p, count, d, g.stream), root)
				})
			})
		}
	})
}

func TestDeviceReduceScatterMatchesOracle(t *testing.T) {
	eachDeviceCase(t, []Op{Sum}, func(t *testing.T, comms []*Comm, gpus []*gpuRank, nodeOf []int, d DataType, op Op, count int) {
		in := inputs(d, count*len(comms), len(comms), 4)
		each(t, comms, func(c *Comm) error {
			g, want := gpus[c.Rank()], newOracle(t, nodeOf, d, op, factorOf).scatter(in, d.Size(), c.Rank())
			expect := slices.Clone(in[c.Rank()])
			copy(expect[c.Rank()*len(want):], want)
			return g.expect(fmt.Sprintf("%v %v[%d] in place", op, d, count), in[c.Rank()], expect, func(p cuda.Ptr) (*Request, error) {
				own := p + cuda.Ptr(c.Rank()*len(want))
				return c.ReduceScatterAsync(Device(own, count, d, g.stream), Device(p, count*len(comms), d, g.stream), op)
			})
		})
	})
}

func TestDeviceAllGatherMatchesConcatenation(t *testing.T) {
	eachDeviceCase(t, []Op{Sum}, func(t *testing.T, comms []*Comm, gpus []*gpuRank, nodeOf []int, d DataType, _ Op, count int) {
		in := inputs(d, count, len(comms), 5)
		want := slices.Concat(in...)
		each(t, comms, func(c *Comm) error {
			g, what := gpus[c.Rank()], fmt.Sprintf("%v[%d]", d, count)
			src, err := g.put(in[c.Rank()])
			if err != nil {
				return err
			}
			if err := g.expect(what, make([]byte, len(want)), want, func(dst cuda.Ptr) (*Request, error) {
				return nil, c.AllGather(t.Context(), Device(dst, count*len(comms), d, g.stream), Device(src, count, d, g.stream))
			}); err != nil {
				return err
			}
			g.used = 0
			before := make([]byte, len(want))
			copy(before[c.Rank()*len(in[0]):], in[c.Rank()])
			return g.expect(what+" in place", before, want, func(p cuda.Ptr) (*Request, error) {
				own := p + cuda.Ptr(c.Rank()*len(in[0]))
				return c.AllGatherAsync(Device(p, count*len(comms), d, g.stream), Device(own, count, d, g.stream))
			})
		})
	})
}

// TestDeviceMixedWithHost lets ranks with an odd number hold host buffers, and the others buffers of both kinds.
func TestDeviceMixedWithHost(t *testing.T) {
	eachDeviceCase(t, []Op{Sum}, func(t *testing.T, comms []*Comm, gpus []*gpuRank, nodeOf []int, d DataType, op Op, count int) {
		in := inputs(d, count, len(comms), 6)
		want := newOracle(t, nodeOf, d, op, factorOf).reduce(schedule.AllReduce, in, d.Size(), -1)
		each(t, comms, func(c *Comm) error {
			g, what := gpus[c.Rank()], fmt.Sprintf("%v %v[%d]", op, d, count)
			host := slices.Clone(in[c.Rank()])
			switch c.Rank() % 4 {
			case 0:
				return g.expect(what, host, want, func(p cuda.Ptr) (*Request, error) {
					return nil, c.AllReduce(t.Context(), Device(p, count, d, g.stream), Device(p, count, d, g.stream), op)
				})
			case 2: // from the device to the host
				if _, err := g.on(host, func(p cuda.Ptr) (*Request, error) {
					return nil, c.AllReduce(t.Context(), Bytes(host, d), Device(p, count, d, g.stream), op)
				}); err != nil {
					return err
				}
				return same(what+" to the host", host, want)
			case 3: // the other way
				return g.expect(what, make([]byte, len(want)), want, func(p cuda.Ptr) (*Request, error) {
					return nil, c.AllReduce(t.Context(), Device(p, count, d, g.stream), Bytes(host, d), op)
				})
			}
			if err := c.AllReduce(t.Context(), Bytes(host, d), Bytes(host, d), op); err != nil {
				return err
			}
			return same(what+" on the host", host, want)
		})
	})
}

// TestDeviceHostCallsBetween alternates between host and device buffers without waiting for the latter.
func TestDeviceHostCallsBetween(t *testing.T) {
	nodeOf := fourRanks(t)
	comms, gpus := newGPUWorld(t, nodeOf, smallDeviceChunks)
	const d, count = TypeInt64, 3000
	in := inputs(d, count, len(comms), 7)
	want := newOracle(t, nodeOf, d, Sum, factorOf).reduce(schedule.AllReduce, in, d.Size(), -1)
	each(t, comms, func(c *Comm) error {
		g := gpus[c.Rank()]
		for round := range 50 {
			host, small := slices.Clone(in[c.Rank()]), []int32{int32(c.Rank())}
			if err := g.expect(fmt.Sprintf("round %d", round), in[c.Rank()], want, func(p cuda.Ptr) (*Request, error) {
				r, err := c.AllReduceAsync(Device(p, count, d, g.stream), Device(p, count, d, g.stream), Sum)
				if err != nil {
					return nil, err
				}
				if err := c.AllReduce(t.Context(), Host(small), Host(small), Sum); err != nil {
					return nil, err
				}
				return r, c.AllReduce(t.Context(), Bytes(host, d), Bytes(host, d), Sum)
			}); err != nil {
				return err
			}
			if !bytes.Equal(host, want) || small[0] != int32(len(comms)*(len(comms)-1)/2) {
				return fmt.Errorf("round %d: the sums on the host are wrong", round)
			}
		}
		return nil
	})
}

// TestDeviceReduceOfFewElements: ranks that add nothing themselves go on to the next collective while their GPU still has to
// fill the slot that the others wait for.
func TestDeviceReduceOfFewElements(t *testing.T) {
	nodeOf := fourRanks(t)
	comms, gpus := newGPUWorld(t, nodeOf, Options{})
	const d, count = TypeInt64, 1
	in := inputs(d, count, len(comms), 8)
	want := newOracle(t, nodeOf, d, Sum, factorOf).reduce(schedule.Reduce, in, d.Size(), 0)
	each(t, comms, func(c *Comm) error {
		g, after := gpus[c.Rank()], in[c.Rank()]
		if c.Rank() == 0 {
			after = want
		}
		for round := range 50 {
			if err := g.expect(fmt.Sprintf("round %d", round), in[c.Rank()], after, func(p cuda.Ptr) (*Request, error) {
				if err := c.Reduce(t.Context(), Device(p, count, d, g.stream), Device(p, count, d, g.stream), Sum, 0); err != nil {
					return nil, err
				}
				return nil, c.Barrier(t.Context())
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestDeviceAllTypes sums every type over two nodes of four ranks with the default options.
func TestDeviceAllTypes(t *testing.T) {
	nodeOf := blocks(8, 2)
	comms, gpus := newGPUWorld(t, nodeOf, Options{})
	check := func(d DataType, count int) {
		in := inputs(d, count, len(comms), 9)
		want := newOracle(t, nodeOf, d, Sum, factorOf).reduce(schedule.AllReduce, in, d.Size(), -1)
		each(t, comms, func(c *Comm) error {
			g := gpus[c.Rank()]
			return g.expect(fmt.Sprintf("%v[%d]", d, count), in[c.Rank()], want, func(p cuda.Ptr) (*Request, error) {
				return c.AllReduceAsync(Device(p, count, d, g.stream), Device(p, count, d, g.stream), Sum)
			})
		})
	}
	for _, d := range DataTypes() {
		check(d, 3)
		check(d, 1_500_001/d.Size())
	}
}

// repeated returns bytes that repeat a block.
func repeated(block []byte, bytes int) []byte {
	b := make([]byte, bytes)
	for n := copy(b, block); n < bytes; n *= 2 {
		copy(b[n:], b[:n])
	}
	return b
}

// TestDeviceLargeBuffers sums buffers of up to 64 MiB over two nodes of four ranks with the default options. What a rank gives
// repeats itself with a period that has nothing in common with chunks and shards, so that a chunk in a wrong place shows.
func TestDeviceLargeBuffers(t *testing.T) {
	comms, gpus := newGPUWorldOf(t, blocks(8, 2), Options{}, 64<<20)
	const period = 12_347
	sum := make([]byte, 4*period)
	for i := range period {
		binary.LittleEndian.PutUint32(sum[4*i:], summed(len(comms), 1, i))
	}
	each(t, comms, func(c *Comm) error {
		g, mine := gpus[c.Rank()], make([]byte, 4*period)
		for i := range period {
			binary.LittleEndian.PutUint32(mine[4*i:], produced(c.Rank(), 1, i))
		}
		for _, size := range []int{1 << 20, 64 << 20} {
			if err := g.expect(fmt.Sprintf("%d bytes", size), repeated(mine, size), repeated(sum, size), func(p cuda.Ptr) (*Request, error) {
				b := Device(p, size/4, TypeUint32, g.stream)
				return c.AllReduceAsync(b, b, Sum)
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestDeviceThreadsGiveTheSameBits lets three threads add for each rank.
func TestDeviceThreadsGiveTheSameBits(t *testing.T) {
	for _, name := range []string{"1x1", "2x1", "2x2"} {
		t.Run(name, func(t *testing.T) {
			nodeOf := layouts[name]
			comms, gpus := newGPUWorld(t, nodeOf, Options{DeviceThreads: 3})
			const d, count = TypeBFloat16, 3_000_001
			in := inputs(d, count, len(comms), 10)
			want := newOracle(t, nodeOf, d, Avg, factorOf).reduce(schedule.AllReduce, in, d.Size(), -1)
			each(t, comms, func(c *Comm) error {
				g := gpus[c.Rank()]
				return g.expect("average", in[c.Rank()], want, func(p cuda.Ptr) (*Request, error) {
					return c.AllReduceAsync(Device(p, count, d, g.stream), Device(p, count, d, g.stream), Avg)
				})
			})
		})
	}
}
