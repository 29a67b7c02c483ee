// SPDX-License-Identifier: Apache-2.0

package cuda

import "time"

// Stream is a cudaStream_t. 0 is the legacy default stream; 1 and 2 are cudaStreamLegacy and cudaStreamPerThread.
type Stream uintptr

// Event is a cudaEvent_t.
type Event uintptr

// NewStream makes a stream that does not wait for the default stream, nor that for it. With high it has the greatest
// priority that the device knows.
//
// Implements: cudaStreamCreateWithPriority, cudaDeviceGetStreamPriorityRange.
func (d *Device) NewStream(high bool) (Stream, error) {
	s, r := rawNewStream(d.ordinal, high)
	return s, d.count(streams, 1, r, "")
}

// DestroyStream gives a stream back; what is still in it is done all the same.
//
// Implements: cudaStreamDestroy.
func (d *Device) DestroyStream(s Stream) error {
	return d.count(streams, -1, rawDestroyStream(d.ordinal, s), "")
}

// Query reports whether all that was given to a stream is done. An error may be of anything that was given to the device
// before.
//
// Implements: cudaStreamQuery.
func (d *Device) Query(s Stream) (done bool, err error) {
	return d.ready(rawQuery(d.ordinal, s))
}

// Synchronize waits until all that was given to a stream is done. The calling thread waits in C.
//
// Implements: cudaStreamSynchronize.
func (d *Device) Synchronize(s Stream) error { return d.failed(rawSynchronize(d.ordinal, s), "") }

// Capturing reports whether what is given to a stream is recorded into a graph instead of being done.
//
// Implements: cudaStreamIsCapturing.
func (d *Device) Capturing(s Stream) (bool, error) {
	capturing, r := rawCapturing(d.ordinal, s)
	return capturing, d.failed(r, "")
}

// NewEvent makes an event; only with timing can it be given to Elapsed, and it is then slower.
//
// Implements: cudaEventCreateWithFlags.
func (d *Device) NewEvent(timing bool) (Event, error) {
	e, r := rawNewEvent(d.ordinal, timing)
	return e, d.count(events, 1, r, "")
}

// DestroyEvent gives an event back, which may be recorded and not done yet.
//
// Implements: cudaEventDestroy.
func (d *Device) DestroyEvent(e Event) error {
	return d.count(events, -1, rawDestroyEvent(d.ordinal, e), "")
}

// QueryEvent reports whether what the event was recorded after is done. An event that was never recorded is done.
//
// Implements: cudaEventQuery.
func (d *Device) QueryEvent(e Event) (done bool, err error) {
	return d.ready(rawQueryEvent(d.ordinal, e))
}

// SynchronizeEvent waits until what the event was recorded after is done. The calling thread waits in C.
//
// Implements: cudaEventSynchronize.
func (d *Device) SynchronizeEvent(e Event) error {
	return d.failed(rawSynchronizeEvent(d.ordinal, e), "")
}

// Elapsed returns the time between two events, which must have been made with timing and be done. The resolution is half
// a microsecond.
//
// Implements: cudaEventElapsedTime.
func (d *Device) Elapsed(from, to Event) (time.Duration, error) {
	ms, r := rawElapsed(d.ordinal, from, to)
	return time.Duration(float64(ms) * float64(time.Millisecond)), d.failed(r, "")
}

// ready makes the answer of a query of its result.
func (d *Device) ready(r result) (bool, error) {
	switch r.code {
	case 0:
		return true, nil
	case codeNotReady:
		return false, nil
	}
	return false, d.failed(r, "")
}
