// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/internal/fakecuda"
)

// fill writes what a rank gives in a round.
func (g *gpuRank) fill(rank, round, count int) (cuda.Ptr, error) {
	data := make([]byte, 4*count)
	for i := range count {
		binary.LittleEndian.PutUint32(data[4*i:], produced(rank, round, i))
	}
	return g.put(data)
}

// check compares the sum of a round.
func (g *gpuRank) check(p cuda.Ptr, ranks, round, count int) error {
	return g.holds(p, round, count, func(i int) uint32 { return summed(ranks, round, i) })
}

// holds compares what the GPU has with what it should have after a round.
func (g *gpuRank) holds(p cuda.Ptr, round, count int, want func(i int) uint32) error {
	got, err := g.get(p, 4*count)
	if err != nil {
		return err
	}
	for i := range count {
		if v := binary.LittleEndian.Uint32(got[4*i:]); v != want(i) {
			return fmt.Errorf("round %d: element %d of %d is %d, want %d", round, i, count, v, want(i))
		}
	}
	return nil
}

// sum sums what the ranks give in a round, and checks the sum in the order of the stream.
func (g *gpuRank) sum(ctx context.Context, c *Comm, round, count int) error {
	g.used = 0
	p, err := g.fill(c.Rank(), round, count)
	if err != nil {
		return err
	}
	b := Device(p, count, TypeUint32, g.stream)
	r, err := c.AllReduceAsync(b, b, Sum)
	if err != nil {
		return err
	}
	return errors.Join(g.check(p, c.WorldSize(), round, count), r.Wait(ctx))
}

// onGPU calls f with this rank's GPU.
func onGPU(c *Comm, f func(g *gpuRank) error) error {
	n, err := cuda.DeviceCount()
	if err != nil {
		return err
	}
	g, err := openGPURank(c.LocalRank()%n, roomy)
	if err != nil {
		return err
	}
	return errors.Join(f(g), g.close())
}

// roleGPUSum sums buffers of several sizes, and checks the sums.
func roleGPUSum(ctx context.Context, c *Comm) error {
	return onGPU(c, func(g *gpuRank) error {
		for round, count := range []int{1, 100, 40_000, 3, 1_000_000, 70_001, 0, 1_300_000} {
			if err := g.sum(ctx, c, round, count); err != nil {
				return err
			}
		}
		return nil
	})
}

// roleGPUSpin sums for ever, with several collectives in flight. It says when it has begun, with what error it ended, and
// that its stream was let go.
func roleGPUSpin(ctx context.Context, c *Comm) error {
	return onGPU(c, func(g *gpuRank) error {
		const count = 300_000
		p, err := g.fill(c.Rank(), 0, count)
		if err != nil {
			return err
		}
		b := Device(p, count, TypeUint32, g.stream)
		var flying []*Request
		for i := 0; err == nil; i++ {
			var r *Request
			if r, err = c.AllReduceAsync(b, b, Sum); err != nil {
				break
			}
			if flying = append(flying, r); len(flying) > 3 {
				err = flying[0].Wait(ctx)
				flying = flying[1:]
			}
			if i == 10 {
				fmt.Println("running")
			}
		}
		fmt.Println("error:", err)
		var lost *cuda.Error
		if e := g.Synchronize(g.stream); e == nil || errors.As(e, &lost) && lost.Sticky() {
			fmt.Println("released")
		}
		return err
	})
}

// roleGPULost sums, has its GPU do something of its own for a while, and says how the next sum ended.
func roleGPULost(ctx context.Context, c *Comm) error {
	return onGPU(c, func(g *gpuRank) error {
		const count = 1000
		if err := g.sum(ctx, c, 0, count); err != nil {
			return err
		}
		for c.devices.gpu.Load().busy.Load() && c.life.Err() == nil { // until nobody asks after the GPU, or the other rank was faster
			time.Sleep(time.Millisecond)
		}
		g.list.Reset()
		g.list.Fill(g.stream, g.memory, 1, 64)
		for range 300 {
			if errors.Join(g.Run(&g.list), g.Synchronize(g.stream)) != nil {
				break
			}
		}
		b := Device(g.memory, count, TypeUint32, g.stream)
		err := c.AllReduce(ctx, b, b, Sum)
		fmt.Printf("error: %v, aborted: %t, invalid: %t\n", err, errors.Is(err, ErrAborted), errors.Is(err, ErrInvalid))
		return nil
	})
}

// roleGPULate sums, and says how the next sum ended, which it begins when it is told to: rank 2 when rank 1 has waited for Timeout, and
// not yet for a verdict on that.
func roleGPULate(ctx context.Context, c *Comm) error {
	return onGPU(c, func(g *gpuRank) error {
		const count = 100_000
		if err := g.sum(ctx, c, 0, count); err != nil {
			return err
		}
		fmt.Println("summed")
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			return err
		}
		if c.Rank() == 2 {
			time.Sleep(c.opts.Timeout + verdictWait/2)
		}
		b := Device(g.memory, count, TypeUint32, g.stream)
		err := c.AllReduce(ctx, b, b, Sum)
		fmt.Println("error:", err)
		return err
	})
}

// roleGPUFree sums while another goroutine allocates and frees memory of the GPU, for which CUDA waits until the GPU is idle and
// keeps other calls waiting.
func roleGPUFree(ctx context.Context, c *Comm) error {
	return onGPU(c, func(g *gpuRank) error {
		stop, freed := make(chan struct{}), make(chan error, 1)
		go func() {
			for n := 0; ; n++ {
				p, err := g.Malloc(1 << 20)
				if err == nil {
					err = g.Free(p)
				}
				select {
				case <-stop:
					if n == 0 {
						err = errors.Join(err, errors.New("nothing was freed meanwhile"))
					}
					freed <- err
					return
				default:
				}
				if err != nil {
					freed <- err
					return
				}
			}
		}()
		const count, rounds = 700_000, 12
		for round := range rounds {
			if err := g.sum(ctx, c, round, count); err != nil {
				return err
			}
		}
		close(stop)
		return <-freed
	})
}

// roleGPUBlocks gathers and scatters, and checks what it gets. The blocks are of many chunks, so that a rank's GPU fills, or
// drains, a part of the items only.
func roleGPUBlocks(ctx context.Context, c *Comm) error {
	return onGPU(c, func(g *gpuRank) error {
		for round, count := range []int{1000, 20_000, 100_000} {
			g.used = 0
			if err := g.gather(ctx, c, round, count); err != nil {
				return fmt.Errorf("gather: %w", err)
			}
			if err := g.scatter(ctx, c, round, count); err != nil {
				return fmt.Errorf("scatter: %w", err)
			}
		}
		return nil
	})
}

// gather gathers what the ranks give in a round, and checks it.
func (g *gpuRank) gather(ctx context.Context, c *Comm, round, count int) error {
	src, err := g.fill(c.Rank(), round, count)
	if err != nil {
		return err
	}
	dst, err := g.room(4 * count * c.WorldSize())
	if err != nil {
		return err
	}
	err = c.AllGather(ctx, Device(dst, count*c.WorldSize(), TypeUint32, g.stream), Device(src, count, TypeUint32, g.stream))
	if err != nil {
		return err
	}
	for r := range c.WorldSize() {
		if err := g.holds(dst+cuda.Ptr(4*count*r), round, count, func(i int) uint32 { return produced(r, round, i) }); err != nil {
			return fmt.Errorf("rank %d's block: %w", r, err)
		}
	}
	return nil
}

// scatter sums what the ranks give in a round, one block for each, and checks this rank's block.
func (g *gpuRank) scatter(ctx context.Context, c *Comm, round, count int) error {
	src, err := g.fill(c.Rank(), round, count*c.WorldSize())
	if err != nil {
		return err
	}
	dst, err := g.room(4 * count)
	if err != nil {
		return err
	}
	err = c.ReduceScatter(ctx, Device(dst, count, TypeUint32, g.stream), Device(src, count*c.WorldSize(), TypeUint32, g.stream), Sum)
	if err != nil {
		return err
	}
	return g.holds(dst, round, count, func(i int) uint32 { return summed(c.WorldSize(), round, c.Rank()*count+i) })
}

func withCUDA(int) []string {
	return []string{"HFREDUCE_CUDA=" + CUDAOn, "HFREDUCE_DEVICE_CHUNK_BYTES=1048576"}
}

// TestDeviceProcesses runs ranks as processes, each with a context of its own on the GPU.
func TestDeviceProcesses(t *testing.T) {
	needCUDA(t)
	for _, name := range []string{"1x1", "1x4", "2x2", "5on2"} {
		t.Run(name, func(t *testing.T) {
			for r, c := range spawnWith(t, "gpusum", layouts[name], withCUDA) {
				if err := c.Wait(); err != nil {
					t.Errorf("rank %d: %v: %s", r, err, c.out.String())
				}
			}
		})
	}
}

// TestDeviceProcessesOfBlocks: where a rank's GPU has nothing to copy for many items, the flag of the last one before them is
// not held back by what comes after it. TestDeviceVariants repeats it with one queue, in which it would be.
func TestDeviceProcessesOfBlocks(t *testing.T) {
	needCUDA(t)
	for _, name := range []string{"1x4", "5on2"} {
		t.Run(name, func(t *testing.T) {
			own := func(int) []string {
				return []string{"HFREDUCE_CUDA=" + CUDAOn, "HFREDUCE_CHUNK_BYTES=4096", "HFREDUCE_DEVICE_CHUNK_BYTES=4096", "HFREDUCE_TIMEOUT=10s"}
			}
			for r, c := range spawnWith(t, "gpublocks", layouts[name], own) {
				if err := c.Wait(); err != nil {
					t.Errorf("rank %d: %v: %s", r, err, c.out.String())
				}
			}
		})
	}
}

// TestDeviceFreeMeanwhile: what a rank has given to its GPU so far comes to an end whatever CUDA is kept busy with.
func TestDeviceFreeMeanwhile(t *testing.T) {
	needCUDA(t)
	for r, c := range spawnWith(t, "gpufree", blocks(4, 2), withCUDA) {
		if err := c.Wait(); err != nil {
			t.Errorf("rank %d: %v: %s", r, err, c.out.String())
		}
	}
}

// TestDeviceKilledRankIsNamed kills one rank in the middle: the others end with an error that names it, and their streams
// are let go.
func TestDeviceKilledRankIsNamed(t *testing.T) {
	needCUDA(t)
	for _, victim := range []int{0, 3} {
		t.Run(fmt.Sprintf("rank%d", victim), func(t *testing.T) {
			killOne(t, spawnWith(t, "gpuspin", blocks(4, 2), withCUDA), victim, "released")
		})
	}
}

// TestDeviceLossIsNamed breaks one rank's GPU in the middle: every rank ends with CUDA's name of the error, and the rank's.
func TestDeviceLossIsNamed(t *testing.T) {
	needCUDA(t)
	fakecuda.NeedFake(t)
	for _, fault := range []struct{ rule, want string }{
		{"async:300:700", "cudaErrorIllegalAddress"},
		{"cuMemcpy2DAsync_v2:100:719", "CUDA_ERROR_LAUNCH_FAILED"},
	} {
		t.Run(fault.want, func(t *testing.T) {
			children := spawnWith(t, "gpuspin", blocks(4, 2), func(rank int) []string {
				env := withCUDA(rank)
				if rank == 2 {
					env = append(env, "FAKECUDA_FAIL="+fault.rule)
				}
				return env
			})
			for r, c := range children {
				var said []string
				for c.lines.Scan() {
					said = append(said, c.lines.Text())
				}
				text := strings.Join(said, "\n")
				if err := c.Wait(); err == nil || !strings.Contains(text, fault.want) || !strings.Contains(text, "rank 2") || !strings.HasSuffix(text, "released") {
					t.Errorf("rank %d ended with %v and said %q, want %s, rank 2, and that its stream was released; %s", r, err, text, fault.want, c.out.String())
				}
			}
		})
	}
}

// TestDeviceLossBetweenCallsIsNamed breaks one rank's GPU while no collective is under way, as a fault of a program's own CUDA
// kernel does: that rank's next call says so to all.
func TestDeviceLossBetweenCallsIsNamed(t *testing.T) {
	needCUDA(t)
	fakecuda.NeedFake(t)
	children := spawnWith(t, "gpulost", blocks(2, 1), func(rank int) []string {
		env := append(withCUDA(rank), "HFREDUCE_TIMEOUT=5s")
		if rank == 1 {
			env = append(env, "FAKECUDA_FAIL=async:150:700")
		}
		return env
	})
	for r, c := range children {
		var said []string
		for c.lines.Scan() {
			said = append(said, c.lines.Text())
		}
		text := strings.Join(said, "\n")
		if err := c.Wait(); (err != nil) != (r == 1) || !strings.Contains(text, "rank 1: GPU: ") || !strings.Contains(text, "cudaErrorIllegalAddress") || !strings.HasSuffix(text, "aborted: true, invalid: false") {
			t.Errorf("rank %d ended with %v and said %q, want cudaErrorIllegalAddress of rank 1; %s", r, err, text, c.out.String())
		}
	}
}

// TestDeviceStoppedJudge: rank 0, which should judge, is stopped. Rank 1 gives up by itself, and rank 2, which has not waited for as
// long, finds its mark: for both it is the same kind of error.
func TestDeviceStoppedJudge(t *testing.T) {
	needCUDA(t)
	children := spawnWith(t, "gpulate", []int{0, 1, 1}, func(rank int) []string { return append(withCUDA(rank), "HFREDUCE_TIMEOUT=1500ms") })
	for r, c := range children {
		expect(t, r, c, "summed")
	}
	if err := children[0].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, c := range children[1:] {
		if _, err := io.WriteString(c.in, "go on\n"); err != nil {
			t.Fatal(err)
		}
	}
	for r, want := range map[int]string{1: "made no progress for 1.5s", 2: brokenNearby} {
		c := children[r]
		if !c.lines.Scan() || !strings.Contains(c.lines.Text(), ErrTimeout.Error()+": rank 0 (host ") || !strings.HasSuffix(c.lines.Text(), want) {
			t.Errorf("rank %d said %q, want that rank 0 does not answer and %q; %s", r, c.lines.Text(), want, c.out.String())
		}
	}
}

// TestDeviceVariants repeats the tests of this package's GPU path with a CUDA that behaves otherwise.
func TestDeviceVariants(t *testing.T) {
	needCUDA(t)
	fakecuda.NeedFake(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct{ name, env, run string }{
		{"addresses of its own", "FAKECUDA_HOST_OFFSET=1", "(AllReduce|Order)"},
		{"no memory operations", "FAKECUDA_NO_MEMOPS=1", "(Mixed|Many|Broadcast|CloseEnds|CallAfter)"},
		{"no batches", "FAKECUDA_NO_BATCH=1", "ReduceScatter"},
		{"slow and uneven", "FAKECUDA_DELAY_US=50", "(Many|Order)"},
		{"a GPU each", "FAKECUDA_DEVICES=8", "(AllGather|Calls|Aborted)"},
		{"one queue for each process", "FAKECUDA_QUEUES=1", "Processes/(1x4|5on2)"},
		{"a graph that is captured elsewhere", "FAKECUDA_CAPTURE=1", "Processes/1x4"},
	} {
		t.Run(v.name, func(t *testing.T) {
			cmd := exec.Command(exe, "-test.run=^TestDevice"+v.run, "-test.short", "-test.timeout=2m")
			cmd.Env = append(os.Environ(), "FAKECUDA_STRICT=1", "FAKECUDA_SEED=7", v.env)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
