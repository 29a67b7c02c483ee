// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"io"
	"sync"
)

// maxLine is how much of a line is kept back until its end comes.
const maxLine = 64 << 10

// lineWriter passes whole lines on, each with a prefix, in one write each, so that lines of several ranks do not mix. A
// line that gets too long is passed on in parts.
type lineWriter struct {
	mu     *sync.Mutex // of the destination
	to     io.Writer
	prefix string
	rest   []byte // of a line that has not ended
}

// Write implements io.Writer.
func (l *lineWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n') + 1
		if end == 0 {
			l.rest = append(l.rest, b...)
			if len(l.rest) > maxLine {
				return n, l.flush()
			}
			return n, nil
		}
		l.rest = append(l.rest, b[:end]...)
		b = b[end:]
		if err := l.pass(); err != nil {
			return n - len(b), err
		}
	}
	return n, nil
}

// flush passes on a last line that has no end of its own.
func (l *lineWriter) flush() error {
	if len(l.rest) == 0 {
		return nil
	}
	l.rest = append(l.rest, '\n')
	return l.pass()
}

func (l *lineWriter) pass() error {
	line := append([]byte(l.prefix), l.rest...)
	l.rest = l.rest[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.to.Write(line)
	return err
}
