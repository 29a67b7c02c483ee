// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// maxNotes bounds the text of the error of a join that failed.
const maxNotes = 4

// note keeps what may explain a failure, the latest few. The caller holds r.mu.
func (r *reception) note(text string) {
	if !r.closed {
		r.notes = append(r.notes[max(0, len(r.notes)-maxNotes+1):], text)
	}
}

// admit notes a member, once, and tells those who wait.
func (r *reception) admit(a *arrived) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.New("too late")
	}
	if other := r.members[a.index]; other != nil {
		return fmt.Errorf("there are two members %d: processes %d and %d", a.index, other.pid, a.pid)
	}
	r.members[a.index] = a
	if r.missing--; r.missing == 0 {
		close(r.full)
		return nil
	}
	r.tell()
	return nil
}

// left forgets a member that ended before all had come, so that it counts as missing, and another process may take its
// place.
func (r *reception) left(a *arrived) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.missing == 0 {
		return
	}
	r.members[a.index] = nil
	r.missing++
	if a.fd >= 0 {
		_ = unix.Close(a.fd)
		a.fd = -1
	}
	r.note(fmt.Sprintf("member %d (process %d) came and ended", a.index, a.pid))
	r.tell()
}

// present returns who has come. The caller holds r.mu.
func (r *reception) present() bitmap {
	var m bitmap
	m.add(0)
	for i, a := range r.members {
		if a != nil {
			m.add(i)
		}
	}
	return m
}

// tell sends the members who has come. They read it at once or stop within the socket's buffer. The caller holds r.mu.
func (r *reception) tell() {
	m := r.present()
	r.send(encodePresent(&m))
}

func (r *reception) send(frame []byte) {
	for _, a := range r.members {
		if a != nil {
			a.conn.SetWriteDeadline(time.Now().Add(helloPatience))
			_, _ = a.conn.Write(frame) // the goroutine that reads sees a broken connection
		}
	}
}

// giveUp returns who is missing, and what is known about it, after it told all who wait. It is the last that they hear.
func (r *reception) giveUp(cause error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.present()
	err := missing(cause, &m, r.c.Size)
	for _, n := range r.notes {
		err = fmt.Errorf("%w; %s", err, n)
	}
	r.send(encodeRefusal(err.Error()))
	r.closed = true
	return err
}

func missing(cause error, present *bitmap, size int) error {
	return fmt.Errorf("%w while members %s of the %d of this node are missing", cause, present.absent(size), size)
}
