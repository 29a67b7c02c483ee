// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// This file orders the collectives of a communicator made for GPUs. The way of a device buffer's data: startOrdered gives the
// collective its place and its work to the GPU (gpu.go, program.go); the queue runs the engine's part, which meets the GPU in
// words of the segment (engine/device.go); complete ends the Request when the GPU is through.

// devices is what a Comm has for GPUs.
type devices struct {
	made bool // for GPUs: the segment has room for what they need

	order   sync.Mutex // collectives get their numbers, and are queued, in one order
	planned uint32     // sequence number of the next item
	bounced uint32     // number of the last small reduction of a device

	gpu atomic.Pointer[gpu] // nil until a collective needs it

	mu       sync.Mutex
	draining []*Request // whose last copies the GPU may not have done, in their order
	awaited  bool       // the GPU was waited for after a fault
}

// place is where a collective stands among the others of a communicator made for GPUs.
type place struct {
	route  engine.Route
	chunk  int64  // size of its largest item
	first  uint32 // its first item; the engine's sequence number
	items  uint32
	bounce uint32 // its number among the small reductions of this rank's device, 0 if it is none
	issued uint64 // how much the player must have given to the GPU, where there is one
}

// last returns its last item.
func (p *place) last() uint32 { return p.first + p.items - 1 }

// onDevice reports whether this rank's GPU takes part.
func (k *call) onDevice() bool { return k.fills() || k.drains() }

// fills and drains report whether the GPU copies what this rank gives, and what it takes.
func (k *call) fills() bool  { return k.in != engine.Nowhere && k.src.device() }
func (k *call) drains() bool { return k.out != engine.Nowhere && k.dst.device() }

// number gives a call its place. c.devices.order is held.
func (c *Comm) number(k *call) {
	d := &c.devices
	t := c.engine.Transfers()
	k.place = &place{
		route: engine.Route{Plan: schedule.NewPlan(&c.layout, k.kind, k.bytes, max(1, k.dtype.Size()), k.root), Elem: max(1, k.dtype.Size()), In: k.in, Out: k.out, SkipOwnBlock: k.skipOwn},
		chunk: c.pipeline.chunkFor(c.payload(k)), first: d.planned,
	}
	k.place.items = t.Numbers(&k.place.route.Plan, k.bytes, k.place.chunk)
	d.planned += k.place.items
	if c.verified(k) {
		plan := c.extremesPlan()
		d.planned += t.Numbers(&plan, extremesBytes, k.place.chunk)
	}
	if k.onDevice() && t.Short(k.kind, k.bytes) {
		d.bounced++
		if d.bounced == 0 {
			d.bounced = 1 // 0 means none; the areas go by the number, so one in 2^32 waits for another area than usual
		}
		k.place.bounce = d.bounced
	}
}

// prepareForDevice fills c.op with what concerns the GPU. In a small reduction the engine finds what the GPU has copied, and
// leaves what it will copy, in areas of the segment.
func (c *Comm) prepareForDevice(k *call) {
	op, p := &c.op, k.place
	op.Filled, op.Drained, op.Bounce = k.fills(), k.drains(), p.bounce
	var in, out []byte
	if p.bounce != 0 {
		t := c.engine.Transfers()
		i, o := t.BounceAt(p.bounce)
		base := c.segment.Base()
		in, out = base[i:i+k.bytes:i+k.bytes], base[o:o+k.bytes:o+k.bytes]
	}
	if op.Filled {
		op.Src = in
	}
	if op.Drained {
		op.Dst = out
	}
}

// startOrdered queues a request of a communicator made for GPUs and gives the GPU its part. An error says that nothing was
// done.
func (c *Comm) startOrdered(r *Request) error {
	k := &r.call
	if err := c.checkVerified(k); err != nil {
		return err
	}
	if !k.fills() && k.src.device() { // nobody looks at it
		k.src = Buffer{}
	}
	if !k.drains() && k.dst.device() {
		k.dst = Buffer{}
	}
	c.devices.order.Lock()
	defer c.devices.order.Unlock()
	if err := c.usable(); err != nil { // what gpuFor looks at may be gone
		return err
	}
	var g *gpu
	if k.onDevice() {
		var err error
		if g, err = c.gpuFor(k); err != nil {
			var lost *cuda.Error
			if !errors.As(err, &lost) || !lost.Sticky() {
				return err
			}
			c.failGPU(lost) // it is no fault of the arguments, and the other ranks wait
		}
	}
	if err := c.usable(); err != nil { // meanwhile
		return err
	}
	c.number(k)
	if g == nil {
		c.queue.submit(c, r)
		return nil
	}
	g.program(k)
	c.queue.submit(c, r) // first: what the GPU is given must be able to come to an end, whoever holds the driver meanwhile
	if g.player != nil {
		<-r.done // without stream memory operations nothing can be ordered before it is given to the GPU
		return nil
	}
	err := g.device.Run(&g.list)
	g.busy.Store(true)
	if err != nil {
		c.failGPU(err)
	}
	return nil
}

// awaitOrdered waits, after the Comm was marked as closed, for calls that had passed their checks before: they are queued, and
// the GPU has their part, when it returns; unless ctx has ended, and it reports false.
func (c *Comm) awaitOrdered(ctx context.Context) bool {
	if !c.devices.made {
		return true
	}
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		c.devices.order.Lock()
		defer c.devices.order.Unlock()
	}()
	return within(ctx, passed)
}

// failGPU breaks the Comm because of CUDA.
func (c *Comm) failGPU(err error) {
	c.fail(verdict{Kind: verdictFault, Rank: c.members[c.rank], Text: fmt.Sprintf("GPU: %v", err)}, err)
}

// runOrdered is run in a communicator made for GPUs.
func (c *Comm) runOrdered(r *Request) error {
	k := &r.call
	if k.onDevice() {
		if err := c.startOrdered(r); err != nil {
			return c.refuse(k.kind, err)
		}
		return r.await(c)
	}
	c.devices.order.Lock()
	c.number(k)
	if !c.queue.enter() {
		c.queue.submit(c, r)
		c.devices.order.Unlock()
		<-r.done
		return r.err
	}
	c.devices.order.Unlock()
	defer c.queue.leave(c)
	c.call = *k
	return c.execute(r.ctx)
}

// await waits until the request is done; when its context ends first, it breaks the Comm.
func (r *Request) await(c *Comm) error {
	select {
	case <-r.done:
		return r.err
	case <-r.ctx.Done():
	}
	select {
	case <-r.done: // as well, and then nothing was cut short
	default:
		c.abandon(fmt.Sprintf("the context of %v ended: %v", &r.call, r.ctx.Err()), r.ctx.Err())
		<-r.done
	}
	return r.err
}

// finish ends a request whose part in the engine has ended: at once, or when the GPU is through.
func (c *Comm) finish(r *Request, err error) {
	r.err = err
	if !r.call.onDevice() {
		close(r.done)
		return
	}
	d := &c.devices
	d.mu.Lock()
	d.draining = append(d.draining, r)
	d.mu.Unlock()
	if err != nil {
		c.endDraining()
		return
	}
	d.complete(c)
}

// complete ends the requests that the GPU is through with.
func (d *devices) complete(c *Comm) {
	item, bounce := c.engine.Through()
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.draining) > 0 {
		r := d.draining[0]
		p := r.call.place
		if before(item, p.last()) || p.bounce != 0 && before(bounce, p.bounce) || !d.gpu.Load().issued(p) {
			return
		}
		if err := c.engine.Sound(); err != nil {
			c.judged(report{Kind: verdictTimeout, Accused: -1, Text: brokenNearby}, err)
			c.failSettled(r)
		}
		d.draining[0] = nil
		d.draining = d.draining[1:]
		close(r.done)
	}
}

// before compares sequence numbers, which wrap.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// pump helps the GPU along where it has no stream memory operations.
func (d *devices) pump() (moved bool, err error) {
	if g := d.gpu.Load(); g != nil && g.player != nil {
		return g.player.Advance()
	}
	return false, nil
}

// drainDevices follows the GPU through what is settled until it is through, or something else waits to be run.
func (c *Comm) drainDevices() {
	if !c.devices.made {
		return
	}
	err := c.engine.Drain(c.queue.waiting)
	for g := c.devices.gpu.Load(); err == nil && g != nil && g.player != nil && !g.player.Idle() && !c.queue.waiting(); {
		_, err = g.player.Advance()
		c.devices.complete(c)
	}
	if err != nil {
		c.settleDrain(err)
		c.endDraining()
	}
}

// settleDrain breaks the Comm for what was found between collectives: faults of the own GPU, which nobody else can see, or those
// of others.
func (c *Comm) settleDrain(err error) {
	var (
		stall *engine.StallError
		gpu   *cuda.Error
	)
	switch {
	case c.cause.Load() != nil:
	case errors.As(err, &stall):
		text := fmt.Sprintf("its GPU has not copied results out for %v (%s): what the stream of dst was given before the call, or the copies, have not been done", c.opts.Timeout, c.gpuAddress())
		c.fail(verdict{Kind: verdictTimeout, Rank: c.members[c.rank], Text: text}, err)
	case errors.As(err, &gpu):
		c.failGPU(err)
	default:
		_ = c.settle(&c.call, c.stats.started.Load(), err)
	}
}

// releaseGrace is how long a rank that fails waits for its GPU to come to an end with what it has been given: some copies,
// unless the caller's stream holds them up or the GPU is lost.
const releaseGrace = time.Second

// severGrace is how long it waits before that for ranks of its node that may still send from slots: they take microseconds, unless
// they are stopped or dead.
const severGrace = 200 * time.Millisecond

// endDraining ends all requests whose part in the engine has ended, because the Comm is broken.
func (c *Comm) endDraining() {
	d := &c.devices
	if g := d.gpu.Load(); g != nil && !d.awaited {
		d.awaited = true
		severed := c.engine.Sever(severGrace)
		ctx, cancel := context.WithTimeout(context.Background(), releaseGrace)
		idle, err := g.awaitIdle(ctx)
		cancel()
		err = errors.Join(severed, err)
		c.log.Info("GPU after a fault", "rank", c.rank, "idle", idle, "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.draining {
		if r.err == nil {
			c.failSettled(r)
		}
		close(r.done)
	}
	d.draining = nil
}

// failSettled makes a request fail that has been counted as one without error.
func (c *Comm) failSettled(r *Request) {
	r.err = &OpError{Op: r.call.kind.String(), Rank: c.rank, Err: *c.cause.Load()}
	c.stats.failed(r.call.kind)
}

// gpuFor returns the Comm's GPU, which its first call with a device buffer decides, after checking a call's buffers.
// c.devices.order is held.
func (c *Comm) gpuFor(k *call) (*gpu, error) {
	if !c.devices.made {
		return nil, fmt.Errorf("%w: the communicator was not made for GPUs: call cuda.Available before Init, or set Options.CUDA (HFREDUCE_CUDA) to %q", ErrNotSupported, CUDAOn)
	}
	ordinal := -1
	for _, b := range []struct {
		name string
		used bool
		Buffer
	}{{"src", k.fills(), k.src}, {"dst", k.drains(), k.dst}} {
		if !b.used || ordinal >= 0 && b.gpu().addr == k.src.gpu().addr {
			continue
		}
		a, err := cuda.PointerAttributes(b.gpu().addr)
		if err != nil {
			return nil, invalidf("%s at %#x: %w", b.name, b.at(), err)
		}
		if a.Type != cuda.DeviceMemory && a.Type != cuda.Managed {
			return nil, invalidf("%s at %#x is %v, not memory of a GPU; use Host or Bytes for host memory", b.name, b.at(), a.Type)
		}
		if ordinal >= 0 && a.Device != ordinal {
			return nil, invalidf("src is on GPU %d and dst on GPU %d; a communicator works with one GPU", ordinal, a.Device)
		}
		ordinal = a.Device
	}
	g := c.devices.gpu.Load()
	if g == nil {
		var err error
		if g, err = c.openGPU(ordinal); err != nil {
			return nil, err
		}
		if c.closed.Load() { // meanwhile, and Close does not look again
			users.add(ordinal, -1)
			return nil, errors.Join(ErrClosed, g.free())
		}
		c.devices.gpu.Store(g)
		go g.watch(c)
	}
	if ordinal != g.device.Ordinal() {
		return nil, invalidf("the buffers are on GPU %d, but the communicator works with GPU %d since its first collective; use one Comm for each GPU", ordinal, g.device.Ordinal())
	}
	return g, g.checkStreams(k)
}

// checkStreams refuses streams that the collective cannot be ordered on.
func (g *gpu) checkStreams(k *call) error {
	for i, b := range [...]Buffer{k.src, k.dst} {
		if !b.device() || i > 0 && k.src.device() && b.gpu().stream == k.src.gpu().stream {
			continue
		}
		capturing, err := g.device.Capturing(b.gpu().stream)
		if err != nil {
			return invalidf("stream %#x: %w", uintptr(b.gpu().stream), err)
		}
		if capturing {
			return invalidf("stream %#x is being captured into a graph, which collectives cannot be part of: the processor has to act in each one", uintptr(b.gpu().stream))
		}
		if err := g.try(b.gpu().stream); err != nil {
			return invalidf("stream %#x is not one of GPU %d: %w", uintptr(b.gpu().stream), g.device.Ordinal(), err)
		}
	}
	return nil
}

// try finds out whether an event of the GPU can be recorded on a stream, as every collective begins: the GPU's work is given
// when the collective has its place, and a fault is one of all ranks then. The event is one that no wait of an earlier
// collective, which a player may still have to give, can be for. c.devices.order is held.
func (g *gpu) try(s cuda.Stream) error {
	if s == g.known[0] || s == g.known[1] {
		return nil
	}
	g.list.Reset()
	g.list.Record(g.tried, s)
	if err := g.device.Run(&g.list); err != nil {
		return err
	}
	g.known = [2]cuda.Stream{s, g.known[0]}
	return nil
}

// streamOr returns the buffer's stream, or that of another one that is not on the device.
func (b Buffer) streamOr(o Buffer) cuda.Stream {
	if b.device() {
		return b.gpu().stream
	}
	return o.gpu().stream
}
