// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// The way out:
//
//  1. Post puts the message in the ring (link.go)
//  2. Poll, gather: headers and payloads of the oldest frames become one vector; headers get the grant of this moment
//  3. sendmsg, which may take any part of it
//  4. advance: frames that are gone entirely leave the ring; for messages an event is kept until Poll returns it
const (
	maxGather = 16 // frames in one call, each in up to 3 pieces
	// Bytes in one call, for which the GC can't stop this thread: 1 MiB takes some 100 us. Large calls are much cheaper
	// by the byte: as long as one lasts, the peer's packets wait for the socket and are then taken in a row.
	maxCall  = 1 << 20
	maxMoved = 1 << 20 // bytes in one Poll each way, so that it stays short
	// A message of at most inlineBytes that goes alone is put behind its header: one piece of memory costs the kernel less.
	inlineBytes = 1 << 10
	spare       = 2 // places in the ring beside posts: for a grant and the close
)

// outgoing is a frame that has not left.
type outgoing struct {
	head    header
	wire    [headerBytes + inlineBytes]byte // the header and, where it goes alone, a small payload
	payload []byte
}

// bytes returns the length of the frame.
func (o *outgoing) bytes() int { return headerBytes + len(o.payload) + padding(len(o.payload)) }

// sender is the sending half of a link.
type sender struct {
	ring  []outgoing
	first int // the oldest
	n     int
	gone  int // bytes of the oldest that have left

	vec vector

	done     []transport.Event // ring of completions that Poll has not returned
	oldest   int
	finished int

	posts int   // outstanding: posted, Sent not returned
	err   error // the kernel refused; the cause may still be in the receive buffer
}

func newSender(posts int) sender {
	return sender{ring: make([]outgoing, posts+spare), done: make([]transport.Event, posts)}
}

func (s *sender) at(i int) *outgoing { return &s.ring[(s.first+i)%len(s.ring)] }

// push appends a frame. Its place is free: posts are counted, and at most spare others are in the ring.
func (s *sender) push(h header, payload []byte) {
	o := s.at(s.n)
	o.head, o.payload = h, payload
	s.n++
}

// pending reports whether there are bytes to send that the kernel may take.
func (s *sender) pending() bool { return s.n > 0 && s.err == nil }

// send moves what the kernel takes, up to maxMoved bytes.
func (l *Link) send() {
	if l.secure != nil {
		l.sendSecure()
		return
	}
	s := &l.out
	for moved := 0; moved < maxMoved && s.err == nil; {
		l.queueGrant()
		if s.n == 0 {
			return
		}
		s.gather(l.credits.Granted())
		n, errno := s.vec.call(outward, l.fd)
		asked := s.vec.asks
		s.vec.reset()
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 {
			s.err = errno
			return
		}
		l.advance(n)
		moved += n
		if n < asked {
			return
		}
	}
}

// queueGrant adds a frame for a grant that is due if there is no other: the next header carries it, too. When the only
// frame's header has left, the grant waits for its end.
func (l *Link) queueGrant() {
	s := &l.out
	if l.credits.Due() && s.n == 0 {
		s.push(header{kind: kindGrant}, nil)
	}
}

// gather fills the vector. Only the oldest frame can have left in part; its header stays as it was.
func (s *sender) gather(grant uint32) {
	room := maxCall
	for i := 0; i < s.n && i < maxGather && room > 0; i++ {
		o, skip := s.at(i), 0
		if i == 0 {
			skip = s.gone
		}
		if skip == 0 {
			o.head.grant = grant
			o.head.encode((*[headerBytes]byte)(o.wire[:]))
		}
		if s.n == 1 && skip == 0 && len(o.payload) <= inlineBytes {
			raceRead(o.payload)
			clear(o.wire[headerBytes+copy(o.wire[headerBytes:], o.payload) : o.bytes()])
			s.vec.add(o.wire[:o.bytes()])
			return
		}
		room -= s.add(o, skip, room)
	}
}

// add appends what is left of a frame of which skip bytes have left, with at most room bytes of its payload, the number of
// which it returns.
func (s *sender) add(o *outgoing, skip, room int) int {
	s.vec.add(o.wire[min(skip, headerBytes):headerBytes])
	skip = max(skip-headerBytes, 0)
	rest := o.payload[min(skip, len(o.payload)):]
	part := rest[:min(len(rest), room)]
	raceRead(part)
	s.vec.add(part)
	if len(part) == len(rest) {
		s.vec.add(zeros[max(skip-len(o.payload), 0):padding(len(o.payload))])
	}
	return len(part)
}

// advance notes that n bytes have left.
func (l *Link) advance(n int) {
	s := &l.out
	for n > 0 {
		o := s.at(0)
		if s.gone == 0 {
			l.credits.Told(o.head.grant)
		}
		take := min(n, o.bytes()-s.gone)
		n -= take
		s.gone += take
		if s.gone < o.bytes() {
			return
		}
		s.complete(o)
	}
}

// complete removes the oldest frame.
func (s *sender) complete(o *outgoing) {
	if o.head.kind == kindMessage {
		s.done[(s.oldest+s.finished)%len(s.done)] = transport.Event{
			Kind: transport.Sent, Landing: o.head.landing, Seq: o.head.seq, Tag: o.head.tag, Sum: o.head.sum, Bytes: len(o.payload),
		}
		s.finished++
	}
	o.payload = nil
	s.first, s.n, s.gone = (s.first+1)%len(s.ring), s.n-1, 0
}

// completions moves the oldest completions to ev, as many as fit.
func (s *sender) completions(ev []transport.Event) int {
	n := min(len(ev), s.finished)
	for i := range n {
		ev[i] = s.done[s.oldest]
		s.oldest = (s.oldest + 1) % len(s.done)
	}
	s.finished -= n
	s.posts -= n
	return n
}

// owes reports whether there is a message that has not left entirely.
func (s *sender) owes() bool {
	for i := range s.n {
		if s.at(i).head.kind == kindMessage {
			return true
		}
	}
	return false
}

// control returns the bytes that are still to be sent if these are control frames only: after them the peer knows that it
// has got everything. Otherwise it returns nil.
func (s *sender) control() []byte {
	var b []byte
	for i := range s.n {
		o := s.at(i)
		if o.head.kind == kindMessage {
			return nil
		}
		if i > 0 || s.gone == 0 {
			o.head.encode((*[headerBytes]byte)(o.wire[:]))
		}
		b = append(b, o.wire[:headerBytes]...)
	}
	return b[min(s.gone, len(b)):]
}

// drop forgets the payloads of what has not left.
func (s *sender) drop() {
	for s.n > 0 {
		s.at(0).payload = nil
		s.first, s.n = (s.first+1)%len(s.ring), s.n-1
	}
}
