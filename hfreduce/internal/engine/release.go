// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"sync/atomic"
	"time"
	"unsafe"
)

// This file lets a device go when its communicator has broken: it has been given all copies of later collectives, too, and can
// only come to an end by doing them.

// releasedBy is added to a word when the device shall wait for it no more.
const releasedBy = 1 << 30

// The directions of device.released.
const (
	drains = iota
	fills
)

// direction returns which one a word of the engine belongs to.
func direction(f DeviceFlag) int {
	if f == Open || f == BounceOpen {
		return fills
	}
	return drains
}

// raise lets the device pass a number.
func (d *device) raise(f DeviceFlag, n uint32) {
	atomic.StoreUint32(d.word(f), n)
	if d.released[direction(f)].Load() {
		atomic.StoreUint32(d.word(f), n+releasedBy)
	}
}

// release lets the device pass all that it waits for in a direction, and will be given.
func (d *device) release(way int) {
	if d.released[way].Swap(true) {
		return
	}
	for f := Open; f <= BounceResult; f++ {
		if direction(f) == way {
			atomic.AddUint32(d.word(f), releasedBy)
		}
	}
}

// ReleaseDevice lets the device come to an end with all that it has been given, without waiting for anything. It may then
// overwrite what other ranks of the node still read: they find the mark that is left for them before they call a result
// good. Other nodes do not see the mark, so where there are any it may only fill slots after Sever. The engine must be
// broken. It may be called from any goroutine.
func (e *Engine) ReleaseDevice() {
	if e.device == nil {
		return
	}
	atomic.StoreUint32(e.mem.poisonWord(), 1)
	e.device.release(drains)
	if len(e.cfg.Layout.Nodes) == 1 {
		e.device.release(fills)
		return
	}
	e.ringNode() // who sleeps with something to send looks up
}

// Sever completes ReleaseDevice, on the goroutine that runs the engine: it closes the links, and waits until no rank of the
// node sends from the slots any more. Ranks that are stopped or dead it awaits for patience.
func (e *Engine) Sever(patience time.Duration) error {
	if e.device == nil {
		return nil
	}
	err := e.CloseLinks()
	for deadline := time.Now().Add(patience); !e.nodeSevered() && time.Now().Before(deadline); {
		time.Sleep(minDeviceNap)
	}
	e.device.release(fills)
	return err
}

// nodeSevered reports whether no other rank of the node sends: each has found out that the communicator is broken, or is in no
// collective, and will find out before it sends in one.
func (e *Engine) nodeSevered() bool {
	if len(e.cfg.Layout.Nodes) == 1 {
		return true
	}
	for l := range e.localSize {
		if l != e.local && atomic.LoadUint32(e.mem.sendsWord(l)) != 0 {
			return false
		}
	}
	return true
}

// maySend says whether this rank may send from the slots. It says so before it looks for the mark of a rank that has broken, and
// such a rank sets the mark before it looks at this: one of the two sees the other.
func (e *Engine) maySend(may bool) {
	if e.device == nil {
		return
	}
	word := uint32(0)
	if may {
		word = 1
	}
	atomic.StoreUint32(e.mem.sendsWord(e.local), word)
}

// ErrPoisoned is the error of a rank whose result may be of overwritten inputs: another one of its node has broken, and knows why.
var ErrPoisoned = errors.New("engine: another rank of this node broke the communicator")

// Sound reports, with an error, that data read before this call may have been overwritten.
func (e *Engine) Sound() error {
	if e.device != nil && atomic.LoadUint32(e.mem.poisonWord()) != 0 {
		return ErrPoisoned
	}
	return nil
}

func (m *memory) poisonWord() *uint32 { return (*uint32)(unsafe.Pointer(&m.base[m.poison])) }

// sendsWord returns where a local rank says whether it may send from the slots.
func (m *memory) sendsWord(local int) *uint32 {
	return (*uint32)(unsafe.Pointer(&m.base[m.sends+int64(local)*line]))
}
