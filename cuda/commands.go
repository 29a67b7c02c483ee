// SPDX-License-Identifier: Apache-2.0

package cuda

import "fmt"

// Kind says between which memories a copy is, enum cudaMemcpyKind.
type Kind uint32

// The kinds. Any leaves it to CUDA to find out.
const (
	ToDevice Kind = 1
	ToHost   Kind = 2
	OnDevice Kind = 3
	Any      Kind = 4
)

// String returns the name.
func (k Kind) String() string {
	if names := [...]string{"on the host", "to the device", "to the host", "on the device", "somewhere"}; int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("cuda.Kind(%d)", uint32(k))
}

// Word is a 32-bit word of registered host memory, as both sides see it. [HostMemory.Word] makes one.
type Word struct {
	Host   *uint32 // read and written atomically (sync/atomic)
	Device Ptr
}

// reached reports whether the word w has come to v. The order is cyclic: half of all values come before v.
func reached(w, v uint32) bool { return int32(w-v) >= 0 }

// operation is what a command does, enum cu_operation in seam.h.
type operation = uint32

const (
	opCopy operation = iota
	opCopy2D
	opFill
	opWrite
	opWait
	opRecord
	opWaitEvent
)

// command is one command. C reads it as it is (struct cu_command in seam.h), and it has no pointers.
type command struct {
	op                         operation
	value                      uint32 // the kind of a copy, the byte of a fill, the value of a word
	stream                     Stream
	dst, src                   Ptr // dst is also the word, or the event
	bytes                      int64
	dstPitch, srcPitch, height int64
}

// String says what the command is about, for errors.
func (c *command) String() string {
	switch c.op {
	case opCopy:
		return size(c.bytes) + " " + Kind(c.value).String()
	case opCopy2D:
		return fmt.Sprintf("%d rows of %s %v", c.height, size(c.bytes), Kind(c.value))
	case opFill:
		return size(c.bytes)
	case opWrite, opWait:
		return fmt.Sprintf("value %d at 0x%x", c.value, uintptr(c.dst))
	}
	return "of an event"
}

// Commands is a list of work for streams. Its zero value is empty. It may be run any number of times, and refers to the
// memory, streams and events that were given; it must not be changed while it is run. In the steady state nothing is
// allocated.
type Commands struct {
	list  []command
	words []*uint32 // the host's sides of Write and Wait, beside list
	waits int       // how many commands are Write or Wait
}

func (c *Commands) add(one command, word *uint32) {
	c.list = append(c.list, one)
	c.words = append(c.words, word)
	if one.op == opWrite || one.op == opWait {
		c.waits++
	}
}

// Len returns the number of commands.
func (c *Commands) Len() int { return len(c.list) }

// Reset empties the list and keeps its memory.
func (c *Commands) Reset() {
	clear(c.words)
	c.list, c.words, c.waits = c.list[:0], c.words[:0], 0
}

// Copy copies bytes. Addresses on the host must be of registered memory, or the copy is slow and waits.
//
// Implements: cuMemcpy2DAsync_v2, cudaMemcpyAsync.
func (c *Commands) Copy(s Stream, dst, src Ptr, bytes int64, k Kind) {
	c.add(command{op: opCopy, value: uint32(k), stream: s, dst: dst, src: src, bytes: bytes}, nil)
}

// Copy2D copies height rows of width bytes, which begin dstPitch and srcPitch bytes apart.
//
// Implements: cuMemcpy2DAsync_v2, cudaMemcpy2DAsync.
func (c *Commands) Copy2D(s Stream, dst Ptr, dstPitch int64, src Ptr, srcPitch, width, height int64, k Kind) {
	c.add(command{op: opCopy2D, value: uint32(k), stream: s, dst: dst, src: src, bytes: width,
		dstPitch: dstPitch, srcPitch: srcPitch, height: height}, nil)
}

// Fill sets bytes of device memory.
//
// Implements: cudaMemsetAsync.
func (c *Commands) Fill(s Stream, dst Ptr, value byte, bytes int64) {
	c.add(command{op: opFill, value: uint32(value), stream: s, dst: dst, bytes: bytes}, nil)
}

// Write stores a value into a word, after all that was given to the stream before is done and can be seen.
//
// Implements: cuStreamWriteValue32_v2, cuStreamBatchMemOp_v2.
func (c *Commands) Write(s Stream, w Word, value uint32) {
	c.add(command{op: opWrite, value: value, stream: s, dst: w.Device}, w.Host)
}

// Wait holds the stream until a word has come to a value: until int32(word - value) >= 0, so that a counter may wrap.
//
// Implements: cuStreamWaitValue32_v2, cuStreamBatchMemOp_v2.
func (c *Commands) Wait(s Stream, w Word, value uint32) {
	c.add(command{op: opWait, value: value, stream: s, dst: w.Device}, w.Host)
}

// Record lets an event stand for all that was given to the stream before.
//
// Implements: cudaEventRecord.
func (c *Commands) Record(e Event, s Stream) {
	c.add(command{op: opRecord, stream: s, dst: Ptr(e)}, nil)
}

// WaitEvent holds the stream until what the event was last recorded after is done.
//
// Implements: cudaStreamWaitEvent.
func (c *Commands) WaitEvent(s Stream, e Event) {
	c.add(command{op: opWaitEvent, stream: s, dst: Ptr(e)}, nil)
}

// Run gives all commands to CUDA, in order, in one call of C. It returns before they are done. An error says which
// command was refused; those before it were given to CUDA, those after it were not. Nothing was given if the error wraps
// ErrNotSupported because a list with Write or Wait is for a device without memory operations: that takes a [Player]. The
// first such list tries them as [Device.Properties] does, unless that was called before.
//
// Implements: cuStreamBatchMemOp_v2.
func (d *Device) Run(c *Commands) error {
	_, err := d.RunTo(c, 0)
	return err
}

// RunTo is Run without the commands before from, and returns how many of the list were given to CUDA, those included.
func (d *Device) RunTo(c *Commands, from int) (done int, err error) {
	if from < 0 || from > len(c.list) {
		return 0, invalidf("command %d of %d", from, len(c.list))
	}
	if from == len(c.list) {
		return from, nil
	}
	if c.waits > 0 && d.features()&memoryOperations == 0 {
		return from, notSupported{fmt.Sprintf("device %d has no stream memory operations: %s", d.ordinal, d.lacking)}
	}
	f := features(0)
	if c.waits > 1 {
		f = d.features()
	}
	done, err = d.give(c.list[from:], f)
	return from + done, err
}

// give runs a list and says of which command an error is.
func (d *Device) give(list []command, f features) (done int, err error) {
	done, r := rawRun(d.ordinal, list, f)
	if r.code == 0 {
		return done, nil
	}
	c := &list[min(done, len(list)-1)]
	return done, d.failed(r, fmt.Sprintf("%v (command %d of %d)", c, done+1, len(list)))
}
