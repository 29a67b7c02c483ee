// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// The way in. A header comes through the buffer, together with as much of what follows as fits: up to 16 KiB one call and
// a copy cost less than two calls. A payload that is not all in the buffer is received straight into its landing area, and
// what the kernel has behind it, padding and the next header, into the buffer in the same call.
const (
	bufferBytes = 20 << 10
	// A message of at least largeBytes is probably followed by one of its kind: behind it only a header is read, so that
	// the next payload needs no copy at all.
	largeBytes = 32 << 10
)

var errEnded = errors.New("the connection ended without a goodbye; its process is gone or broke the link")

// receiver is the receiving half of a link.
type receiver struct {
	buf     [bufferBytes]byte
	r, w    int // buf[r:w] is received and not consumed
	vec     vector
	current header // of the message whose payload is being received
	rest    []byte // of its landing area, not yet written
	skip    int    // bytes of padding to come before the next header, once rest is complete
	within  bool   // a payload is being received
	// elsewhere says, by landing area, where the message of an item lands instead.
	elsewhere []redirect
	drained   bool  // the kernel had no more in the last call of this Poll
	err       error // why the link is broken, once nothing more can be received
}

// redirect is for the message of one item. A nil area is for none.
type redirect struct {
	seq  uint32
	area []byte
}

// Redirect implements transport.Redirector.
func (l *Link) Redirect(landing, seq uint32, area []byte) bool {
	in := &l.in
	if l.err != nil || in.within && in.current.landing == landing && in.current.seq == seq {
		return false
	}
	in.elsewhere[landing] = redirect{seq, area}
	return true
}

// receive fills ev with messages that are complete and takes in up to maxMoved bytes.
func (l *Link) receive(ev []transport.Event) int {
	in := &l.in
	in.drained = false
	n := 0
	for moved := 0; n < len(ev) && in.err == nil; {
		in.unbuffer()
		switch {
		case in.within && len(in.rest) == 0:
			ev[n] = in.finish()
			n++
			continue
		case !in.within && in.w-in.r >= headerBytes:
			h, err := decode(in.buf[in.r:])
			in.r += headerBytes
			if err == nil {
				err = l.frame(h)
			}
			in.err = err
			continue
		}
		if in.drained || moved >= maxMoved {
			break
		}
		moved += l.fetch()
	}
	return n
}

// frame acts on a header. An error breaks the link.
func (l *Link) frame(h header) error {
	if !l.credits.Heard(h.grant) {
		return fmt.Errorf("%w: its grant went back from item %d to %d", transport.ErrProtocol, l.credits.Limit(), h.grant)
	}
	switch h.kind {
	case kindMessage:
		return l.begin(h)
	case kindClose:
		return transport.ErrPeerClosed
	case kindOpen:
		return fmt.Errorf("%w: it opened the link twice", transport.ErrProtocol)
	}
	return nil
}

// begin prepares for a message's payload.
func (l *Link) begin(h header) error {
	if h.landing >= uint32(len(l.landings)) {
		return fmt.Errorf("%w: a message for landing area %d, there are %d", transport.ErrProtocol, h.landing, len(l.landings))
	}
	area := l.landings[h.landing]
	if r := &l.in.elsewhere[h.landing]; r.area != nil && r.seq == h.seq {
		area, r.area = r.area, nil
	}
	if uint64(h.bytes) > uint64(len(area)) {
		return fmt.Errorf("%w: %d bytes for landing area %d, which has %d", transport.ErrProtocol, h.bytes, h.landing, len(area))
	}
	if !l.credits.MayReceive(h.seq) {
		return fmt.Errorf("%w: a message of item %d, granted are those before %d", transport.ErrProtocol, h.seq, l.credits.Granted())
	}
	l.in.current, l.in.rest, l.in.skip, l.in.within = h, area[:h.bytes], padding(int(h.bytes)), true
	raceWrite(l.in.rest)
	return nil
}

// unbuffer moves what the buffer has of the payload, and drops what it has of the padding.
func (in *receiver) unbuffer() {
	n := copy(in.rest, in.buf[in.r:in.w])
	in.rest = in.rest[n:]
	in.r += n
	if len(in.rest) == 0 {
		n = min(in.skip, in.w-in.r)
		in.skip -= n
		in.r += n
	}
}

// finish ends a message.
func (in *receiver) finish() transport.Event {
	in.within, in.rest = false, nil
	h := &in.current
	return transport.Event{Kind: transport.Received, Landing: h.landing, Seq: h.seq, Tag: h.tag, Sum: h.sum, Bytes: int(h.bytes)}
}

// fetch does one call and returns the number of bytes. What the buffer holds then is less than a header, or nothing if a
// payload or its padding is being received.
func (l *Link) fetch() int {
	in := &l.in
	in.w = copy(in.buf[:], in.buf[in.r:in.w])
	in.r = 0
	direct := in.rest[:min(len(in.rest), maxCall)]
	in.vec.add(direct)
	if len(direct) == len(in.rest) { // else what comes behind it is still payload, and would be copied
		ahead := in.buf[in.w:]
		if in.within && in.current.bytes >= largeBytes {
			ahead = ahead[:in.skip+headerBytes]
		}
		in.vec.add(ahead)
	}
	n, err := l.take(&in.vec)
	in.drained = n < in.vec.asks
	in.vec.reset()
	switch {
	case err == unix.EAGAIN:
		in.err = l.out.err // nil as a rule
	case err != nil:
		in.err = err
	case n == 0:
		in.err = errEnded
	}
	landed := min(n, len(direct))
	in.rest = in.rest[landed:]
	in.w += n - landed
	return n
}

// take receives into the vector's memory, without blocking.
func (l *Link) take(v *vector) (int, error) {
	if l.secure != nil {
		return l.secure.receive(v)
	}
	n, errno := v.call(inward, l.fd)
	if errno != 0 { // as an error 0 would be one, too
		return n, errno
	}
	return n, nil
}
