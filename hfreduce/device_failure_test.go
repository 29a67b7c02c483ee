// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/internal/fakecuda"
)

// TestDeviceAbortedStreamsGoOn breaks a communicator whose ranks' streams wait for a rank that never comes: the calls end with
// the cause, and what comes next on the streams runs.
func TestDeviceAbortedStreamsGoOn(t *testing.T) {
	comms, gpus := newGPUWorld(t, fourRanks(t), smallDeviceChunks)
	missing := len(comms) - 1
	var requests []*Request
	for r, c := range comms[:missing] {
		p, err := gpus[r].room(80_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, count := range []int{20_000, 3} {
			b := Device(p, count, TypeInt32, gpus[r].stream)
			request, err := c.AllReduceAsync(b, b, Sum)
			if err != nil {
				t.Fatal(err)
			}
			requests = append(requests, request)
		}
	}
	cause := errors.New("enough")
	comms[missing-1].Abort(cause)
	for i, r := range requests {
		if err := r.Wait(t.Context()); !errors.Is(err, ErrAborted) || !strings.Contains(err.Error(), cause.Error()) {
			t.Errorf("call %d ended with %v, want ErrAborted and %q", i, err, cause)
		}
	}
	for r, g := range gpus[:missing] {
		if err := g.Synchronize(g.stream); err != nil { // would never return if it still waited
			t.Errorf("rank %d: %v", r, err)
		}
	}
	for r, c := range comms {
		b := Device(gpus[r].memory, 10, TypeInt32, gpus[r].stream)
		if _, err := c.AllReduceAsync(b, b, Sum); !errors.Is(err, ErrAborted) {
			t.Errorf("rank %d's next call gave %v, want ErrAborted", r, err)
		}
	}
}

// TestDeviceTimeoutNamesTheGPU lets one rank's producer be late for longer than Timeout.
func TestDeviceTimeoutNamesTheGPU(t *testing.T) {
	o := smallDeviceChunks
	o.Timeout = 300 * time.Millisecond
	comms, gpus := newGPUWorld(t, blocks(2, 1), o)
	gpus[1].needHold(t)
	if err := gpus[1].hold(); err != nil {
		t.Fatal(err)
	}
	var requests []*Request
	for r, c := range comms {
		p, err := gpus[r].room(80_000)
		if err != nil {
			t.Fatal(err)
		}
		b := Device(p, 20_000, TypeInt32, gpus[r].stream)
		request, err := c.AllReduceAsync(b, b, Sum)
		if err != nil {
			t.Fatal(err)
		}
		requests = append(requests, request)
	}
	for r, request := range requests {
		err := request.Wait(t.Context())
		if !errors.Is(err, ErrTimeout) {
			t.Errorf("rank %d ended with %v, want ErrTimeout", r, err)
		}
		if text := err.Error(); !strings.Contains(text, "rank 1 (host node0") || !strings.Contains(text, "waits for its GPU (input (D2H))") {
			t.Errorf("rank %d ended with %v, which does not name rank 1", r, err)
		}
	}
	gpus[1].letGo()
	if err := gpus[1].Synchronize(gpus[1].stream); err != nil {
		t.Error(err)
	}
}

// lateDrains gives one sum whose result cannot be copied out on a rank, because the stream of dst is held. The others are done when
// it returns. free is the stream of src there.
func lateDrains(t *testing.T, comms []*Comm, gpus []*gpuRank, late, count int) (*Request, cuda.Stream) {
	t.Helper()
	gpus[late].needHold(t)
	free, err := gpus[late].NewStream(false)
	if err != nil {
		t.Fatal(err)
	}
	if err := gpus[late].hold(); err != nil {
		t.Fatal(err)
	}
	requests := make([]*Request, len(comms))
	each(t, comms, func(c *Comm) error {
		g, in := gpus[c.Rank()], gpus[c.Rank()].stream
		if c.Rank() == late {
			in = free
		}
		dst, src := Device(g.memory+cuda.Ptr(4*count), count, TypeInt32, g.stream), Device(g.memory, count, TypeInt32, in)
		r, err := c.AllReduceAsync(dst, src, Sum)
		if requests[c.Rank()] = r; err != nil || c.Rank() == late {
			return err
		}
		return r.Wait(t.Context())
	})
	return requests[late], free
}

// endLate lets the stream of lateDrains go.
func (g *gpuRank) endLate(t *testing.T, free cuda.Stream) {
	t.Helper()
	g.letGo()
	if err := errors.Join(g.Synchronize(g.stream), g.DestroyStream(free)); err != nil {
		t.Error(err)
	}
}

// TestDeviceTimeoutOfDrains: results that a GPU does not copy out are a fault also when the rank's part is through but for that.
func TestDeviceTimeoutOfDrains(t *testing.T) {
	o := smallDeviceChunks
	o.Timeout = 300 * time.Millisecond
	for _, count := range []int{10, 2000} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			comms, gpus := newGPUWorld(t, blocks(2, 1), o)
			r, free := lateDrains(t, comms, gpus, 1, count)
			defer gpus[1].endLate(t, free)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := r.Wait(ctx); !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "rank 1: its GPU has not copied") {
				t.Errorf("the call ended with %v, want ErrTimeout, rank 1 and its GPU", err)
			}
		})
	}
}

// TestDevicePeerLostWhileDraining breaks a link when nothing but a GPU's last copies is missing: that is no fault of the GPU.
func TestDevicePeerLostWhileDraining(t *testing.T) {
	nodeOf := blocks(2, 2)
	_, gpus := newGPUWorld(t, nodeOf, smallDeviceChunks)
	o := smallDeviceChunks
	o.CUDA = CUDAOn
	kept := make([]keptLinks, len(nodeOf))
	comms := newWorldOverWith(t, nodeOf, o, func(rank int, inner transport.Transport) transport.Transport {
		kept[rank].Transport = inner
		return &kept[rank]
	})
	r, free := lateDrains(t, comms, gpus, 0, 2000)
	defer gpus[0].endLate(t, free)
	kept[1].links[0].(transport.Breaker).Break() // as if its process had ended
	if err := r.Wait(t.Context()); !errors.Is(err, ErrPeerLost) || !strings.Contains(err.Error(), "rank 1 (host node1") {
		t.Errorf("the call ended with %v, want ErrPeerLost and rank 1", err)
	}
}

// keptLinks is a transport that keeps the links that it has made.
type keptLinks struct {
	transport.Transport
	links []transport.Link
}

func (k *keptLinks) Connect(ctx context.Context, peer int, name string, cfg transport.LinkConfig) (transport.Link, error) {
	l, err := k.Transport.Connect(ctx, peer, name, cfg)
	k.links = append(k.links, l)
	return l, err
}

// TestDeviceBuffersAreChecked lists what is refused before anything happens.
func TestDeviceBuffersAreChecked(t *testing.T) {
	comms, gpus := newGPUWorld(t, []int{0}, smallDeviceChunks)
	c, g := comms[0], gpus[0]
	good := Device(g.memory, 100, TypeFloat32, g.stream)
	for _, test := range []struct {
		name     string
		dst, src Buffer
		want     string
	}{
		{"host memory", Device(g.pinned.HostPtr(64), 100, TypeFloat32, g.stream), good, "use Host or Bytes for host memory"},
		{"no memory", good, Device(cuda.Ptr(1<<40+12345), 100, TypeFloat32, g.stream), "src at 0x"},
		{"address 0", Device(0, 100, TypeFloat32, g.stream), good, "device address 0"},
		{"negative count", Device(g.memory, -1, TypeFloat32, g.stream), good, "negative count"},
		{"per-thread stream", Device(g.memory, 100, TypeFloat32, 2), good, "per-thread default stream"},
		{"partial overlap", Device(g.memory+4, 100, TypeFloat32, g.stream), good, "overlap by part"},
		{"types", Device(g.memory, 100, TypeInt32, g.stream), good, "the same type"},
		{"counts", Device(g.memory+4096, 99, TypeFloat32, g.stream), good, "the same count"},
		{"unknown type", Device(g.memory, 100, DataType(200), g.stream), good, "unknown data type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, call := range []func() error{
				func() error { return c.AllReduce(t.Context(), test.dst, test.src, Sum) },
				func() error { _, err := c.AllReduceAsync(test.dst, test.src, Sum); return err },
			} {
				if err := call(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("the error is %v, want ErrInvalid and %q", err, test.want)
				}
			}
		})
	}
	if err := c.AllReduce(t.Context(), good, good, Sum); err != nil {
		t.Errorf("the communicator is not usable any more: %v", err)
	}
}

// TestDeviceNeedsACommForIt uses a device buffer with a communicator that was not made for GPUs.
func TestDeviceNeedsACommForIt(t *testing.T) {
	_, gpus := newGPUWorld(t, []int{0}, smallDeviceChunks)
	c := newWorld(t, []int{0}, Options{CUDA: CUDAOff})[0]
	b := Device(gpus[0].memory, 10, TypeInt8, gpus[0].stream)
	if err := c.AllReduce(t.Context(), b, b, Sum); !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "HFREDUCE_CUDA") {
		t.Errorf("the error is %v, want ErrNotSupported with the remedy", err)
	}
}

// TestDeviceMismatchIsFound lets two ranks sum different numbers of elements: both learn it, and their streams go on.
func TestDeviceMismatchIsFound(t *testing.T) {
	comms, gpus := newGPUWorld(t, blocks(2, 1), smallDeviceChunks)
	each(t, comms, func(c *Comm) error {
		g := gpus[c.Rank()]
		b := Device(g.memory, 20_000+5000*c.Rank(), TypeInt32, g.stream)
		r, err := c.AllReduceAsync(b, b, Sum)
		if err != nil {
			return err
		}
		if err := r.Wait(t.Context()); !errors.Is(err, ErrMismatch) {
			return fmt.Errorf("the call ended with %v, want ErrMismatch", err)
		}
		return g.Synchronize(g.stream)
	})
}

// TestDeviceErrorsAreCounted: a call that fails when only its GPU's last copies are missing counts as one with an error.
func TestDeviceErrorsAreCounted(t *testing.T) {
	comms, gpus := newGPUWorld(t, []int{0}, smallDeviceChunks)
	r, free := lateDrains(t, comms, gpus, 0, 2000)
	defer gpus[0].endLate(t, free)
	count := func() CollectiveStats { return comms[0].Stats().Collectives[schedule.AllReduce] }
	for deadline := time.Now().Add(10 * time.Second); count().Calls == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the engine's part does not end")
		}
	}
	comms[0].Abort(errors.New("enough"))
	if err := r.Wait(t.Context()); !errors.Is(err, ErrAborted) {
		t.Errorf("the call ended with %v, want ErrAborted", err)
	}
	if s := count(); s.Calls != 1 || s.Errors != 1 {
		t.Errorf("%d calls and %d errors are counted, want 1 and 1", s.Calls, s.Errors)
	}
}

// TestDeviceSplit sums within each half of a communicator, both at the same time, and over all of it.
func TestDeviceSplit(t *testing.T) {
	comms, gpus := newGPUWorld(t, fourRanks(t), smallDeviceChunks)
	const count = 9000
	half := uint32(len(comms) / 2)
	each(t, comms, func(c *Comm) (err error) {
		g := gpus[c.Rank()]
		part, err := c.Split(t.Context(), c.Rank()%2, 0)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, part.Close(context.Background())) }()
		for round := range 10 {
			g.used = 0
			p, err := g.fill(c.Rank(), round, count)
			if err != nil {
				return err
			}
			b := Device(p, count, TypeUint32, g.stream)
			first, err := part.AllReduceAsync(b, b, Sum)
			if err != nil {
				return err
			}
			second, err := c.AllReduceAsync(b, b, Sum) // every half's sum, as often as the half has ranks
			if err != nil {
				return err
			}
			got, err := g.get(p, 4*count)
			if err := errors.Join(err, first.Wait(t.Context()), second.Wait(t.Context())); err != nil {
				return err
			}
			for i := range count {
				if v := binary.LittleEndian.Uint32(got[4*i:]); v != half*summed(len(comms), round, i) {
					return fmt.Errorf("round %d: element %d is %d, want %d", round, i, v, half*summed(len(comms), round, i))
				}
			}
		}
		return nil
	})
}

// roleGPUOdd says how a sum from the first GPU to the last one ends, and then one on the host.
func roleGPUOdd(ctx context.Context, c *Comm) error {
	return oddSum(ctx, c, func(_, last *gpuRank) Buffer { return Device(last.memory, 100, TypeInt32, last.stream) })
}

// roleGPUStray does so with a result on the first GPU and a stream of the last one.
func roleGPUStray(ctx context.Context, c *Comm) error {
	return oddSum(ctx, c, func(first, last *gpuRank) Buffer { return Device(first.memory+4096, 100, TypeInt32, last.stream) })
}

func oddSum(ctx context.Context, c *Comm, dst func(first, last *gpuRank) Buffer) error {
	n, err := cuda.DeviceCount()
	if err != nil {
		return err
	}
	first, err := openGPURank(0, roomy)
	if err != nil {
		return err
	}
	last, err := openGPURank(n-1, roomy)
	if err != nil {
		return err
	}
	src := Device(first.memory, 100, TypeInt32, first.stream)
	fmt.Println("error:", c.AllReduce(ctx, dst(first, last), src, Sum))
	x := []int32{1}
	fmt.Println("host:", c.AllReduce(ctx, Host(x), Host(x), Sum))
	return errors.Join(first.close(), last.close())
}

// TestDeviceRefusalsLeaveTheCommUsable: what CUDA makes impossible is an error at once, by its name, and the communicator goes
// on with host buffers.
func TestDeviceRefusalsLeaveTheCommUsable(t *testing.T) {
	fakecuda.NeedFake(t)
	needCUDA(t)
	for _, test := range []struct{ name, role, env, want string }{
		{"two GPUs", "gpuodd", "FAKECUDA_DEVICES=2", "src is on GPU 0 and dst on GPU 1"},
		{"stream of another GPU", "gpustray", "FAKECUDA_DEVICES=2", "is not one of GPU 0: cuda: cudaEventRecord"},
		{"captured stream", "gpuodd", "FAKECUDA_CAPTURING=1", "is being captured into a graph"},
		{"memory that cannot be pinned", "gpuodd", "FAKECUDA_FAIL=cudaHostRegister:1:2", "cudaErrorMemoryAllocation"},
		{"no stream", "gpuodd", "FAKECUDA_FAIL=cudaStreamCreateWithPriority:3:2", "cudaErrorMemoryAllocation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := spawnWith(t, test.role, []int{0}, func(rank int) []string { return append(withCUDA(rank), test.env) })[0]
			var said []string
			for c.lines.Scan() {
				said = append(said, c.lines.Text())
			}
			err := c.Wait()
			if len(said) != 2 || !strings.Contains(said[0], test.want) || said[1] != "host: <nil>" || err != nil {
				t.Errorf("it said %q and ended with %v, want %q first and then that the host sum went well; %s", said, err, test.want, c.out.String())
			}
		})
	}
}

// TestWarnOfQueues: from as many communicators on as the driver has queues there is a warning with the remedy.
func TestWarnOfQueues(t *testing.T) {
	for _, test := range []struct {
		communicators int
		connections   string
		warned        bool
	}{{3, "", false}, {4, "", true}, {4, "8", true}, {4, "32", false}, {16, "32", true}, {15, "100", false}, {4, "many", true}} {
		var out bytes.Buffer
		warnOfQueues(slog.New(slog.NewTextHandler(&out, nil)), 0, test.communicators, test.connections)
		if warned := strings.Contains(out.String(), "CUDA_DEVICE_MAX_CONNECTIONS"); warned != test.warned {
			t.Errorf("%d communicators, connections %q: warned: %t", test.communicators, test.connections, warned)
		}
	}
}

// TestDeviceStatsCount: bytes are counted as they are copied, and each phase takes time.
func TestDeviceStatsCount(t *testing.T) {
	comms, gpus := newGPUWorld(t, blocks(2, 2), smallDeviceChunks)
	const count, small = 100_000, 16
	each(t, comms, func(c *Comm) error {
		if c.Stats().Device != nil {
			return errors.New("there are counts of a GPU before it was used")
		}
		for _, n := range []int{count, small} {
			if err := gpus[c.Rank()].sum(t.Context(), c, 1, n); err != nil {
				return err
			}
		}
		d := c.Stats().Device
		if want := uint64(4 * (count + small)); d.FilledBytes != want || d.DrainedBytes != want {
			return fmt.Errorf("%d and %d bytes counted, want %d", d.FilledBytes, d.DrainedBytes, want)
		}
		if d.FillSeconds <= 0 || d.ReduceSeconds <= 0 || d.NetworkSeconds <= 0 || d.DrainSeconds <= 0 {
			return fmt.Errorf("phases: %+v", d)
		}
		return nil
	})
}

// TestDeviceWordsCatchUp: words that stayed behind for longer than numbers can tell are set anew, others are left alone.
func TestDeviceWordsCatchUp(t *testing.T) {
	for _, test := range []struct{ word, first, want uint32 }{
		{5, 6, 5}, {5, 6 + staleBy/2, 5}, {5, 6 + staleBy, 5 + staleBy}, {1 << 31, 1, 0}, {^uint32(0), 3, ^uint32(0)},
	} {
		in, out := test.word, test.word
		g := &gpu{}
		g.in.done.Host, g.out.done.Host = &in, &out
		if g.catchUp(test.first); in != test.want || out != test.want {
			t.Errorf("word %d before item %d became %d and %d, want %d", test.word, test.first, in, out, test.want)
		}
	}
}
