// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"fmt"
	"syscall"
)

// EventKind says what an asynchronous event is about, enum ibv_event_type.
type EventKind uint32

// The kinds of events. Those of a port and the device concern all of the device's users; those of a QP or CQ, this one.
const (
	EventCQError EventKind = iota
	EventQPFatal
	EventQPRequestError
	EventQPAccessError
	EventEstablished
	EventSQDrained
	EventPathMigrated
	EventPathMigrationError
	EventDeviceFatal
	EventPortActive
	EventPortError
	EventLIDChange
	EventPKeyChange
	EventSMChange
	EventSRQError
	EventSRQLimit
	EventLastWQEReached
	EventClientReregister
	EventGIDChange
	EventWQFatal
)

// String returns the kind in words.
func (k EventKind) String() string {
	return name(k, []string{
		"CQ error", "QP fatal error", "QP request error", "QP access error", "communication established", "send queue drained",
		"path migrated", "path migration failed", "device fatal error", "port active", "port error", "LID changed",
		"partition keys changed", "subnet manager changed", "SRQ error", "SRQ limit reached", "last work request of an SRQ consumed",
		"subnet manager asks to register again", "GID table changed", "WQ fatal error",
	})
}

// Event is an asynchronous event of a device.
type Event struct {
	Kind EventKind
	Port int    // the port it is about, 0 if it is not about a port
	QP   uint32 // the number of the QP it is about, 0 if it is not about a QP; it may have been closed since
}

// String returns e.g. "port error on port 1".
func (e Event) String() string {
	switch {
	case e.Port != 0:
		return fmt.Sprintf("%v on port %d", e.Kind, e.Port)
	case e.QP != 0:
		return fmt.Sprintf("%v on QP %#x", e.Kind, e.QP)
	}
	return e.Kind.String()
}

// EventFD returns the file descriptor that is readable when NextEvent has an event. It is non-blocking, belongs to the
// device and is closed with it.
func (d *Device) EventFD() int { return d.fd }

// NextEvent takes the next asynchronous event, without blocking; false if there is none. It is acknowledged before
// NextEvent returns, so that closing a QP or CQ never waits for whoever has an event of it in hand.
//
// Implements: ibv_get_async_event, ibv_ack_async_event.
func (d *Device) NextEvent() (e Event, ok bool, err error) {
	err = d.with(func() error {
		var errno syscall.Errno
		if e, errno = rawNextEvent(d.handle); errno == syscall.EAGAIN {
			return nil
		}
		ok = errno == 0
		return d.failed(errno, "ibv_get_async_event", "")
	})
	return e, ok, err
}
