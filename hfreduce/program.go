// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"sync/atomic"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
)

// This file writes what a GPU is given for one collective: on one stream the copies into the slots, on the other one those
// out of them, each between a wait and a flag (engine/device.go), in the order that engine/program.go says.

// lane is one of the two streams.
type lane struct {
	stream     cuda.Stream
	wait, done cuda.Word
	flag       uint32
	flagged    bool // flag is to be given
}

// begin begins copies: what follows comes after the engine's word. The flag of those before is given with it, in one call.
func (l *lane) begin(list *cuda.Commands, n uint32) {
	l.flush(list)
	list.Wait(l.stream, l.wait, n)
}

// end ends them: the engine may know that what came before is done.
func (l *lane) end(n uint32) { l.flag, l.flagged = n, true }

// flush gives the flag.
func (l *lane) flush(list *cuda.Commands) {
	if l.flagged {
		list.Write(l.stream, l.done, l.flag)
		l.flagged = false
	}
}

// program writes the GPU's part in a call into g.list.
func (g *gpu) program(k *call) {
	g.list.Reset()
	g.enter(k)
	if k.place.bounce != 0 {
		g.bounceProgram(k)
	} else {
		g.pipelineProgram(k)
	}
	g.leave(k)
	if g.player != nil {
		g.player.Add(&g.list)
		k.place.issued = g.player.Added()
	}
}

// enter puts the copies after what the caller's streams have been given.
func (g *gpu) enter(k *call) {
	src, dst := k.src.streamOr(k.dst), k.dst.streamOr(k.src)
	g.list.Record(g.entered, src)
	g.list.WaitEvent(g.in.stream, g.entered)
	after := g.entered
	if dst != src {
		after = g.enteredOut
		g.list.Record(after, dst)
	}
	g.list.WaitEvent(g.out.stream, after)
}

// leave puts what the caller's streams are given next after the copies. That the last copy out of a slot comes after the
// last one into it follows from the flags, which CUDA does not see.
func (g *gpu) leave(k *call) {
	g.list.Record(g.filled, g.in.stream)
	g.list.WaitEvent(g.out.stream, g.filled)
	g.list.Record(g.drained, g.out.stream)
	src, dst := k.src.streamOr(k.dst), k.dst.streamOr(k.src)
	g.list.WaitEvent(src, g.drained)
	if dst != src {
		g.list.WaitEvent(dst, g.drained)
	}
}

// bounceProgram is for a small reduction.
func (g *gpu) bounceProgram(k *call) {
	n := k.place.bounce
	in, out := g.transfers.BounceAt(n)
	g.in.wait, g.in.done = g.word(engine.BounceOpen), g.word(engine.BounceCopied)
	g.in.begin(&g.list, n)
	if k.fills() && k.src.bytes > 0 {
		g.list.Copy(g.in.stream, g.segment.at(in), k.src.gpu().addr, k.src.Bytes(), cuda.ToHost)
	}
	g.in.end(n)
	g.in.flush(&g.list)
	g.out.wait, g.out.done = g.word(engine.BounceResult), g.word(engine.BounceDrained)
	g.out.begin(&g.list, n)
	if k.drains() && k.dst.bytes > 0 {
		g.list.Copy(g.out.stream, k.dst.gpu().addr, g.segment.at(out), k.dst.Bytes(), cuda.ToDevice)
	}
	g.out.end(n)
	g.out.flush(&g.list)
}

// pipelineProgram is for a collective in items.
func (g *gpu) pipelineProgram(k *call) {
	g.in.wait, g.in.done = g.word(engine.Open), g.word(engine.Copied)
	g.out.wait, g.out.done = g.word(engine.Result), g.word(engine.Drained)
	g.catchUp(k.place.first)
	p := k.place
	j := engine.Job{Route: p.route, First: p.first, Items: p.items, Chunk: p.chunk, Fills: k.fills(), Drains: k.drains()}
	g.runs = g.transfers.Program(&j, g.runs, func(s *engine.Step) {
		if s.Drain {
			g.transfer(&g.out, k.dst.gpu().addr, cuda.ToDevice, s)
		} else {
			g.transfer(&g.in, k.src.gpu().addr, cuda.ToHost, s)
		}
	})
}

// staleBy is how far the words may stay behind the engine's numbers, which wrap at twice this.
const staleBy = 1 << 29

// catchUp brings the GPU's words near the engine's numbers after many collectives without it. It has nothing to do then.
func (g *gpu) catchUp(first uint32) {
	for _, w := range []cuda.Word{g.in.done, g.out.done} {
		if last := atomic.LoadUint32(w.Host); first-last > staleBy {
			atomic.StoreUint32(w.Host, first-1)
		}
	}
}

// transfer gives a step, between a buffer and the segment.
func (g *gpu) transfer(l *lane, buffer cuda.Ptr, kind cuda.Kind, s *engine.Step) {
	if len(s.Runs) == 0 {
		l.flush(&g.list)
		return
	}
	l.begin(&g.list, s.Seq)
	for i := range s.Runs {
		run := &s.Runs[i]
		dst, dstPitch, src, srcPitch := g.segment.at(run.Segment), run.Stride, buffer+cuda.Ptr(run.Buffer), run.Bytes
		if kind == cuda.ToDevice {
			dst, dstPitch, src, srcPitch = src, srcPitch, dst, dstPitch
		}
		if run.Rows == 1 {
			g.list.Copy(l.stream, dst, src, run.Bytes, kind)
			continue
		}
		g.list.Copy2D(l.stream, dst, dstPitch, src, srcPitch, run.Bytes, int64(run.Rows), kind)
	}
	l.end(s.Seq)
}
