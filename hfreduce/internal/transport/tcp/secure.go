// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"errors"
	"io"
	"net"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// A link over TLS has a socket that never blocks, as every link, and a tls.Conn that does not know: the connection under it
// is a pair of buffers. What TLS writes goes into one, which the link empties into the socket; what it reads comes from the
// other one, which the link fills, and when that is empty TLS is told that its time is over, which it takes for a reason to
// be asked again later. So the goroutine that drives the rank encrypts and decrypts, too, and nothing waits for anything.
const (
	cipherBytes = 128 << 10 // each way: the largest amount of a system call
	recordBytes = 16 << 10  // of a record's content, at most
	recordExtra = 22        // what a record is longer than its content: header, type and tag
)

// secureStream stands between a link and its socket.
type secureStream struct {
	tls   *hello.Secure
	under cipherText
	plain [recordBytes]byte // small pieces, put together for one record
	held  int               // bytes in plain, of the call that is going on
	ahead int               // bytes that are encrypted and that the kernel does not have
	bad   bool              // the next call of receive returns an error
}

// cipherText is the connection under TLS: what has been encrypted and not sent, what has been received and not decrypted.
type cipherText struct {
	net.Conn // nil: TLS calls nothing but what is here
	fd       int
	out, in  buffer
	err      error // why the socket gives nothing more
}

// buffer is a queue of bytes.
type buffer struct {
	bytes      [cipherBytes + recordBytes]byte
	start, end int
}

func (b *buffer) len() int { return b.end - b.start }

// again tells TLS to be asked later. It keeps what it has read.
type again struct{}

func (again) Error() string   { return "no more bytes for now" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

var (
	errAgain    net.Error = again{}
	errOverflow           = errors.New("tcp: the peer makes TLS answer more than it may")
)

// newSecureStream takes TLS off its connection, which it returns.
func newSecureStream(conn *hello.Secure) (*secureStream, net.Conn) {
	s := &secureStream{tls: conn}
	return s, conn.Swap(&s.under)
}

// Read gives TLS what has been received, after a look at the socket.
func (c *cipherText) Read(b []byte) (int, error) {
	if c.in.len() == 0 {
		c.fill()
	}
	if c.in.len() == 0 {
		if c.err != nil {
			return 0, c.err
		}
		return 0, errAgain
	}
	n := copy(b, c.in.bytes[c.in.start:c.in.end])
	c.in.start += n
	return n, nil
}

func (c *cipherText) fill() {
	if c.err != nil {
		return
	}
	c.in.start, c.in.end = 0, 0
	n, errno := transfer(inward.plain, c.fd, c.in.bytes[:cipherBytes])
	switch {
	case errno == unix.EAGAIN:
	case errno != 0:
		c.err = errno
	case n == 0:
		c.err = io.EOF
	}
	c.in.end = n
}

// Write takes what TLS has encrypted. There is room: send looks before, and answers to the peer are small and few.
func (c *cipherText) Write(b []byte) (int, error) {
	if c.out.end+len(b) > len(c.out.bytes) {
		c.out.end = copy(c.out.bytes[:], c.out.bytes[c.out.start:c.out.end])
		c.out.start = 0
	}
	if c.out.end+len(b) > len(c.out.bytes) {
		return 0, errOverflow
	}
	c.out.end += copy(c.out.bytes[c.out.end:], b)
	return len(b), nil
}

// Close, and deadlines, are for the socket's owner.
func (c *cipherText) Close() error                     { return nil }
func (c *cipherText) SetDeadline(time.Time) error      { return nil }
func (c *cipherText) SetReadDeadline(time.Time) error  { return nil }
func (c *cipherText) SetWriteDeadline(time.Time) error { return nil }

// flush sends what is encrypted, as far as the socket takes it.
func (c *cipherText) flush() unix.Errno {
	for c.out.len() > 0 {
		n, errno := transfer(outward.plain, c.fd, c.out.bytes[c.out.start:c.out.end])
		if errno != 0 {
			return errno
		}
		c.out.start += n
	}
	c.out.start, c.out.end = 0, 0
	return 0
}

// full reports whether there is no room for another record.
func (c *cipherText) full() bool { return c.out.len()+recordBytes+recordExtra > cipherBytes }

// encrypt takes of the vector's memory what there is room for, and returns how many bytes.
func (s *secureStream) encrypt(v *vector) (n int, err error) {
	for i := range v.used {
		for rest := v.piece(i); len(rest) > 0 && err == nil && !s.under.full(); {
			var took int
			took, err = s.take(rest)
			n += took
			rest = rest[took:]
		}
	}
	if err == nil {
		err = s.seal()
	}
	return n, err
}

// take encrypts a record of b as it lies, or adds to the record that is being put together.
func (s *secureStream) take(b []byte) (int, error) {
	if s.held == 0 && len(b) >= recordBytes {
		return s.tls.Write(b[:recordBytes])
	}
	n := copy(s.plain[s.held:], b)
	if s.held += n; s.held < recordBytes {
		return n, nil
	}
	return n, s.seal()
}

// seal encrypts the record that is being put together.
func (s *secureStream) seal() error {
	if s.held == 0 {
		return nil
	}
	_, err := s.tls.Write(s.plain[:s.held])
	s.held = 0
	return err
}

// sendSecure is send over TLS. What is encrypted together, at most cipherBytes, counts as sent when the kernel has all of it:
// who is told so may stop to poll, and then nobody would send the rest.
func (l *Link) sendSecure() {
	s := &l.out
	for moved := 0; moved < maxMoved && s.err == nil && l.settle(); {
		l.queueGrant()
		if s.n == 0 {
			return
		}
		s.gather(l.credits.Granted())
		l.secure.ahead, s.err = l.secure.encrypt(&s.vec)
		s.vec.reset()
		moved += l.secure.ahead
	}
	if s.err == nil {
		l.settle()
	}
}

// settle gives the kernel what is encrypted, and reports whether it has all of it.
func (l *Link) settle() bool {
	switch errno := l.secure.under.flush(); errno {
	case 0:
		l.advance(l.secure.ahead)
		l.secure.ahead = 0
		return true
	case unix.EAGAIN:
	default:
		l.out.err = errno
	}
	return false
}

// receive fills the vector's memory, as vector.call would. EAGAIN means that there is nothing; fewer bytes than asked for, that
// there is nothing more.
func (s *secureStream) receive(v *vector) (n int, err error) {
	for i := 0; i < v.used; i++ {
		for rest := v.piece(i); len(rest) > 0; {
			took, err := s.tls.Read(rest)
			n += took
			rest = rest[took:]
			switch {
			case err == nil:
			case n > 0: // the next call meets the error again
				s.bad = err != errAgain
				return n, nil
			case err == errAgain:
				return 0, unix.EAGAIN
			case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
				return 0, nil
			default:
				return 0, err
			}
		}
	}
	return n, nil
}

// holds reports whether there may be something for the link that the socket does not tell of.
func (s *secureStream) holds(drained bool) bool { return s.bad || !drained }

// last encrypts the last bytes of a link and returns all that is still to be sent.
func (s *secureStream) last(b []byte) []byte {
	rest := append([]byte(nil), s.under.out.bytes[s.under.out.start:s.under.out.end]...)
	s.under.out.start, s.under.out.end = 0, 0
	if _, err := s.tls.Write(b); err != nil {
		return rest
	}
	return append(rest, s.under.out.bytes[:s.under.out.end]...)
}

// piece returns the i-th piece of the vector's memory.
func (v *vector) piece(i int) []byte { return unsafe.Slice(v.iov[i].Base, v.iov[i].Len) }
