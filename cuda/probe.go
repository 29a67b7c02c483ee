// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// probeTime is how long the device may take for what it does in microseconds.
const probeTime = 5 * time.Second

// probeMemoryOperations tries the memory operations, one by one and then both at once, on a stream and a page of its own.
// Any error says that there are none; lacking is why.
func (d *Device) probeMemoryOperations() (can features, lacking string) {
	l, err := library()
	if err != nil {
		return 0, reason(err)
	}
	if l.has&memoryOperations == 0 {
		return 0, driverName + " has no cuStreamWaitValue32_v2 and cuStreamWriteValue32_v2"
	}
	stream, err := d.NewStream(false)
	if err != nil {
		return 0, reason(err)
	}
	memory, err := d.HostAlloc(4096)
	if err == nil {
		can, err = d.probeOn(stream, memory, l.has)
		err = errors.Join(err, memory.Close())
	}
	if err = errors.Join(err, d.DestroyStream(stream)); err != nil && can == 0 {
		return 0, reason(err)
	}
	return can, ""
}

// probeOn tries the memory operations, and then those in batches.
func (d *Device) probeOn(stream Stream, memory *HostMemory, has features) (can features, err error) {
	word, err := memory.Word(0)
	if err != nil {
		return 0, err
	}
	for i, f := range []features{memoryOperations, batches} {
		if has&f == 0 {
			break
		}
		var c Commands
		value := uint32(i + 1)
		c.Write(stream, word, value)
		c.Wait(stream, word, value)
		_, err := d.give(c.list, f)
		if err == nil {
			err = d.probeWait(stream, word, value)
		}
		if err != nil {
			if f == batches {
				return can, nil // one by one will do
			}
			return 0, err
		}
		can |= f
	}
	return can, nil
}

// probeWait waits until the stream is done and looks at the word. A device that does not write is let go.
func (d *Device) probeWait(stream Stream, word Word, value uint32) error {
	for deadline := time.Now().Add(probeTime); ; time.Sleep(10 * time.Microsecond) {
		done, err := d.Query(stream)
		if err != nil {
			return err
		}
		if done && atomic.LoadUint32(word.Host) == value {
			return nil
		}
		if done || time.Now().After(deadline) {
			got := atomic.SwapUint32(word.Host, value)
			return errors.Join(fmt.Errorf("cuda: a word is %d after %d was written on device %d", got, value, d.ordinal), d.Synchronize(stream))
		}
	}
}
