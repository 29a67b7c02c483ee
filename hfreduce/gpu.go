// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/internal/cpus"
)

// gpu is a Comm's GPU: two streams, whose copies fill and drain the slots of the node's segment, and the words in which they
// meet the engine.
type gpu struct {
	device    *cuda.Device
	segment   *pinned
	transfers engine.Transfers
	in, out   lane
	player    *cuda.Player // nil where the GPU has stream memory operations

	entered, enteredOut, filled, drained cuda.Event
	tried                                cuda.Event // nobody waits for it

	cpus cpus.Set // where the progress thread belongs, "" where that is all the same

	list  cuda.Commands  // of the call at hand
	known [2]cuda.Stream // the callers' last ones; 0 is every GPU's
	runs  []engine.Run   // of the copies at hand

	busy  atomic.Bool   // something was submitted since the GPU was seen idle
	ended chan struct{} // closed when watch has ended
}

// gpuAddress returns the PCI address of this rank's GPU, "" if it has used none.
func (c *Comm) gpuAddress() string {
	if g := c.devices.gpu.Load(); g != nil {
		return g.device.PCIAddress()
	}
	return ""
}

// openGPU makes the Comm's side of a GPU: it pins the segment, which takes time, but once for each process.
func (c *Comm) openGPU(ordinal int) (g *gpu, err error) {
	g = &gpu{transfers: c.engine.Transfers(), ended: make(chan struct{})}
	if g.device, err = cuda.Open(ordinal); err != nil {
		return nil, fmt.Errorf("hfreduce: GPU %d: %w", ordinal, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("hfreduce: GPU %d of rank %d: %w", ordinal, c.rank, err), g.free())
		}
	}()
	if g.segment, err = pin(g.device, c.segment.Base()); err != nil {
		return g, err
	}
	for _, l := range []*lane{&g.in, &g.out} {
		if l.stream, err = g.device.NewStream(true); err != nil {
			return g, err
		}
	}
	for _, e := range []*cuda.Event{&g.entered, &g.enteredOut, &g.filled, &g.drained, &g.tried} {
		if *e, err = g.device.NewEvent(false); err != nil {
			return g, err
		}
	}
	how := "stream memory operations"
	if !g.device.Properties().MemoryOperations {
		how, g.player = "polling of events", cuda.NewPlayer(g.device)
	}
	g.near(c)
	warnOfQueues(c.log, ordinal, users.add(ordinal, 1), os.Getenv("CUDA_DEVICE_MAX_CONNECTIONS"))
	p := g.device.Properties()
	c.log.Info("GPU", "rank", c.rank, "ordinal", ordinal, "name", p.Name, "address", p.PCIAddress, "ordering", how, "pinned_bytes", len(c.segment.Base()))
	return g, nil
}

// The driver has as many queues for copies from a GPU as half of CUDA_DEVICE_MAX_CONNECTIONS, which is 8 by default, and puts
// the copies of all streams of a process into them (seen on an H200 with driver 580; docs/gpu.md). A communicator whose
// collective waits for other ranks holds one.
const (
	defaultConnections = 8
	maxConnections     = 32
)

// warnOfQueues tells when a process has so many communicators on a GPU that waiting ones may hold up other streams' copies.
func warnOfQueues(log *slog.Logger, ordinal, communicators int, connections string) {
	n, err := strconv.Atoi(connections)
	if err != nil || n < 1 {
		n = defaultConnections
	}
	if n = min(n, maxConnections); communicators < n/2 {
		return
	}
	log.Warn("many communicators of this process on one GPU: while they wait for other ranks, copies of other streams may have to wait, too; set CUDA_DEVICE_MAX_CONNECTIONS to 32 before CUDA starts, or use fewer",
		"gpu", ordinal, "communicators", communicators, "connections", n)
}

// users counts the communicators of this process on each GPU.
var users = gpuUsers{count: map[int]int{}}

type gpuUsers struct {
	mu    sync.Mutex
	count map[int]int
}

// add changes a GPU's number and returns it.
func (u *gpuUsers) add(ordinal, n int) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.count[ordinal] += n
	return u.count[ordinal]
}

// word returns one of this rank's words.
func (g *gpu) word(f engine.DeviceFlag) cuda.Word {
	at := g.transfers.FlagAt(f)
	return cuda.Word{Host: (*uint32)(unsafe.Pointer(&g.segment.base[at])), Device: g.segment.memory.DevicePtr(at)}
}

// idle reports whether the GPU has nothing left of what was submitted.
func (g *gpu) idle() (bool, error) {
	if g.player != nil {
		if _, err := g.player.Advance(); err != nil || !g.player.Idle() {
			return false, err
		}
	}
	for _, l := range []*lane{&g.in, &g.out} {
		if done, err := g.device.Query(l.stream); err != nil || !done {
			return false, err
		}
	}
	return true, nil
}

// idlePoll is how often a rank that has to wait for the GPU itself looks.
const idlePoll = 200 * time.Microsecond

// lastLook is how long is still waited for what mostly takes microseconds, when a context has ended: for CUDA to say that the
// GPU has nothing left, or for a call to be given to it.
const lastLook = 100 * time.Millisecond

// within waits for c until ctx ends, and then for lastLook.
func within(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
	}
	select {
	case <-c:
		return true
	case <-time.After(lastLook):
		return false
	}
}

// awaitIdle waits until the GPU has nothing left, is lost, or ctx ends; it has looked then. It asks from a goroutine of its
// own: CUDA may keep the question waiting as long as the GPU.
func (g *gpu) awaitIdle(ctx context.Context) (idle bool, err error) {
	type answer struct {
		idle bool
		err  error
	}
	last, answered := answer{}, make(chan struct{})
	go func() {
		defer close(answered)
		poll := time.NewTicker(idlePoll)
		defer poll.Stop()
		for {
			last.idle, last.err = g.idle()
			if last.idle || last.err != nil || ctx.Err() != nil {
				return
			}
			select {
			case <-poll.C:
			case <-ctx.Done():
			}
		}
	}()
	if !within(ctx, answered) {
		return false, ctx.Err()
	}
	if !last.idle && last.err == nil {
		return false, ctx.Err()
	}
	return last.idle, last.err
}

// watchInterval is how often a rank whose GPU has something to do asks whether it is still alive: the words of one that is
// lost never change.
const watchInterval = 100 * time.Millisecond

// watch breaks the Comm when the GPU is lost. Only it asks CUDA while a collective runs, since CUDA may keep it waiting.
func (g *gpu) watch(c *Comm) {
	defer close(g.ended)
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-c.life.Done():
			return
		case <-tick.C:
		}
		if !g.busy.Swap(false) {
			continue
		}
		idle := true
		for _, l := range []*lane{&g.in, &g.out} {
			done, err := g.device.Query(l.stream)
			if err != nil {
				c.failGPU(err)
				return
			}
			idle = idle && done
		}
		if !idle {
			g.busy.Store(true)
		}
	}
}

// close gives everything back once the GPU has nothing left to do. When ctx ends first, or the GPU is lost, what the GPU may
// still touch is left as it is: the segment, too.
func (g *gpu) close(ctx context.Context) (left bool, err error) {
	users.add(g.device.Ordinal(), -1)
	idle, err := false, error(nil)
	if within(ctx, g.ended) {
		idle, err = g.awaitIdle(ctx)
	} else { // CUDA keeps watch waiting
		err = ctx.Err()
	}
	var lost *cuda.Error
	switch {
	case idle:
		return false, g.free()
	case errors.As(err, &lost) && lost.Sticky(): // nothing runs any more, and every call fails
		return false, g.segment.unpin()
	}
	return true, fmt.Errorf("hfreduce: GPU %d still has copies of collectives to do, so their memory stays mapped: %w", g.device.Ordinal(), err)
}

// free gives everything back.
func (g *gpu) free() error {
	var errs []error
	if g.player != nil {
		errs = append(errs, g.player.Close())
	}
	for _, l := range []*lane{&g.in, &g.out} {
		if l.stream != 0 {
			errs = append(errs, g.device.DestroyStream(l.stream))
		}
	}
	for _, e := range []cuda.Event{g.entered, g.enteredOut, g.filled, g.drained, g.tried} {
		if e != 0 {
			errs = append(errs, g.device.DestroyEvent(e))
		}
	}
	if g.segment != nil {
		errs = append(errs, g.segment.unpin())
	}
	return errors.Join(errs...)
}

// issued reports whether the GPU has been given all of a call.
func (g *gpu) issued(p *place) bool {
	return g == nil || g.player == nil || g.player.Issued() >= p.issued
}

// pinned is a segment that CUDA knows. Ranks of one process may share it.
type pinned struct {
	base   []byte
	memory *cuda.HostMemory
	users  int
}

// at returns the address of a byte, for copies.
func (p *pinned) at(offset int64) cuda.Ptr { return cuda.Ptr(unsafe.Pointer(&p.base[offset])) }

// pins are the segments that are pinned, by address.
var pins = struct {
	sync.Mutex
	byBase map[*byte]*pinned
}{byBase: map[*byte]*pinned{}}

// pin makes a segment known to CUDA, for all GPUs.
func pin(d *cuda.Device, base []byte) (*pinned, error) {
	pins.Lock()
	defer pins.Unlock()
	if p := pins.byBase[&base[0]]; p != nil {
		p.users++
		return p, nil
	}
	memory, err := d.Register(base)
	if err != nil {
		return nil, err
	}
	p := &pinned{base: base, memory: memory, users: 1}
	pins.byBase[&base[0]] = p
	return p, nil
}

// unpin takes it back when nobody uses it any more.
func (p *pinned) unpin() error {
	pins.Lock()
	defer pins.Unlock()
	if p.users--; p.users > 0 {
		return nil
	}
	delete(pins.byBase, &p.base[0])
	return p.memory.Close()
}
