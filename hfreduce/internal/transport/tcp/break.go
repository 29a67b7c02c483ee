// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// Break implements transport.Breaker. The connection ends as it does with a process: what has been sent still arrives.
func (l *Link) Break() {
	if l.err == nil {
		_ = unix.Shutdown(l.fd, unix.SHUT_RDWR) // one that is down already is what is wanted
	}
}

// BreakAmid implements transport.Breaker. What lands is a multiple of 64 bytes, for behind less there would be padding.
func (l *Link) BreakAmid(m transport.Message, bytes int) {
	s, n := &l.out, len(m.Payload)
	if l.err == nil && n > 0 && uint64(n) <= math.MaxUint32 && s.posts < len(s.done) {
		s.push(header{kind: kindMessage, landing: m.Landing, seq: m.Seq, tag: m.Tag, bytes: uint32(n)}, m.Payload[:min(bytes, n-1)&^(unit-1)])
		l.send()
		if s.n == 0 {
			s.finished-- // the torn message: as much of it as there is has left
		}
		s.drop()
		s.gone = 0
	}
	l.Break()
}
