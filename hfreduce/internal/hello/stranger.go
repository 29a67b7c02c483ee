// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Strangers get this long, and this many of their bytes are read, between our last answer and the close: closing with
// unread bytes would reset the connection, and the reset can overtake the answer.
const (
	lingerTimeout = time.Second
	lingerBytes   = 64 << 10
)

// stranger says why a connection is not taken: a kind, which is logged once, and the details.
type stranger struct {
	kind   Kind
	detail error
}

func (s *stranger) Error() string { return fmt.Sprintf("%s (%v)", s.kind, s.detail) }

func (s *stranger) Unwrap() error { return s.detail }

var errNoMagic = errors.New("no hfreduce hello")

// classify names a stranger by its first bytes.
func classify(first []byte, err error) *stranger {
	switch {
	case isHTTP(first):
		return &stranger{KindHTTP, fmt.Errorf("%q", first)}
	case isTLS(first):
		return &stranger{KindTLS, errors.New("this job does not use TLS; if it is a rank of it, set HFREDUCE_TLS_CERT, " +
			"HFREDUCE_TLS_KEY and HFREDUCE_TLS_CA on all ranks or on none")}
	case len(first) >= 4 && string(first[:4]) == "SSH-":
		return &stranger{KindSSH, errNoMagic}
	case len(first) > 0 && string(first[:min(4, len(first))]) != magic[:min(4, len(first))]:
		return &stranger{KindBytes, fmt.Errorf("%q", first)}
	case errors.Is(err, os.ErrDeadlineExceeded) && len(first) == 0:
		return &stranger{KindSilent, err}
	case len(first) == 0:
		return &stranger{KindProbe, err}
	}
	return brokenOff(err)
}

// brokenOff is a connection that ended, or whose time ended, within its hello.
func brokenOff(err error) *stranger {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &stranger{KindSlow, err}
	}
	return &stranger{KindTruncated, err}
}

// isHTTP tells from the first four bytes of a request line (or of HTTP/2's preface).
func isHTTP(first []byte) bool {
	if len(first) < 4 {
		return false
	}
	switch string(first[:4]) {
	case "GET ", "HEAD", "POST", "PUT ", "DELE", "CONN", "OPTI", "TRAC", "PATC", "PRI ":
		return true
	}
	return false
}

// isTLS tells a handshake record.
func isTLS(first []byte) bool { return len(first) >= 2 && first[0] == 0x16 && first[1] == 3 }

const httpBody = "This is a port of an hfreduce job. It does not speak HTTP.\n"

var httpAnswer = fmt.Sprintf("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"+
	"Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(httpBody), httpBody)

// farewell sends the last words, if any, waits shortly for the other side to have read them, and closes.
func (l *Listener) farewell(conn net.Conn, words []byte) {
	defer conn.Close()
	if len(words) == 0 {
		return
	}
	conn.SetDeadline(time.Now().Add(lingerTimeout))
	if _, err := conn.Write(words); err != nil {
		return
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
	if place, ok := l.leaving.add(TCP(conn)); ok {
		io.CopyN(io.Discard, TCP(conn), lingerBytes)
		l.leaving.remove(place)
	}
}
