// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// Kind says why a connection to the socket of a segment was turned away. Its text is a label of metrics and stays the same.
type Kind string

// The kinds.
const (
	KindUser   Kind = "segment_user"   // a process of another user
	KindSilent Kind = "segment_silent" // no hello, or none in time
	KindBytes  Kind = "segment_bytes"  // bytes that are no hello
	KindMember Kind = "segment_member" // a hello that does not fit: another segment, a number that is taken, other options
)

// Kinds lists them all.
func Kinds() []Kind { return []Kind{KindUser, KindSilent, KindBytes, KindMember} }

// maxUnknown bounds the connections that have not said hello; more than a node can have members.
const maxUnknown = 2 * MaxMembers

var errUser = errors.New("another user")

// kindOf sorts the errors of greet.
func kindOf(err error) Kind {
	var member errMember
	switch {
	case errors.Is(err, errUser):
		return KindUser
	case errors.As(err, &member):
		return KindMember
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return KindSilent
	}
	return KindBytes
}

// errMember is what is wrong with a hello that could be read.
type errMember struct{ error }

func (e errMember) Unwrap() error { return e.error }

// enqueue notes a connection that has not said hello. Of too many the oldest is closed: members speak at once.
func (r *reception) enqueue(conn io.Closer) {
	r.unknown = append(r.unknown, conn)
	if len(r.unknown) > maxUnknown {
		r.closeOldest()
	}
}

func (r *reception) closeOldest() {
	r.unknown[0].Close()
	r.unknown = r.unknown[1:]
}

// relieve closes a connection that has not said hello, if there is any, to get its descriptor back.
func (r *reception) relieve() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.unknown) > 0 {
		r.closeOldest()
	}
}

// dequeue forgets it again.
func (r *reception) dequeue(conn io.Closer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, c := range r.unknown {
		if c == conn {
			r.unknown = append(r.unknown[:i], r.unknown[i+1:]...)
			return
		}
	}
}

// count tells the owner of the segment of a stranger.
func (r *reception) count(a *arrived, why error) {
	if r.c.Stranger != nil {
		r.c.Stranger(kindOf(why), fmt.Errorf("process %d: %w", a.pid, why))
	}
}
