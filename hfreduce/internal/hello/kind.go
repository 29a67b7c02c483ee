// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
)

// Kind says why a connection was not taken. Its text is a label of metrics and stays the same.
type Kind string

// The kinds.
const (
	KindHTTP        Kind = "http"
	KindTLS         Kind = "tls"
	KindSSH         Kind = "ssh"
	KindSilent      Kind = "silent"
	KindSlow        Kind = "slow"
	KindProbe       Kind = "probe"
	KindTruncated   Kind = "truncated"
	KindBytes       Kind = "bytes"
	KindMalformed   Kind = "malformed"
	KindVersion     Kind = "version"
	KindClear       Kind = "clear"
	KindCertificate Kind = "certificate"
	KindJob         Kind = "job"
	KindSecret      Kind = "secret"
	KindRank        Kind = "rank"
	KindRefused     Kind = "refused"
	KindNotReady    Kind = "not_ready"
	KindNonsense    Kind = "nonsense"
	KindCrowded     Kind = "crowded"
	KindClosing     Kind = "closing"
)

// kinds lists all of them, in the order of Stats, with what the log calls them.
func kinds() []struct {
	kind Kind
	text string
} {
	return []struct {
		kind Kind
		text string
	}{
		{KindHTTP, "an HTTP request"},
		{KindTLS, "a TLS client"},
		{KindSSH, "an SSH client"},
		{KindSilent, "a connection that said nothing in time"},
		{KindSlow, "a connection that did not end its hello in time"},
		{KindProbe, "a connection that closed without a word"},
		{KindTruncated, "a hello that broke off"},
		{KindBytes, "bytes that are no hello"},
		{KindMalformed, "a malformed hello"},
		{KindVersion, "another protocol version"},
		{KindClear, "a rank without TLS"},
		{KindCertificate, "a wrong certificate"},
		{KindJob, "a rank of another job"},
		{KindSecret, "a wrong job secret"},
		{KindRank, "a dialer that wanted another rank"},
		{KindRefused, "a refused connection"},
		{KindNotReady, "a purpose that nobody takes"},
		{KindNonsense, "a connection that said hello and then nonsense"},
		{KindCrowded, "a connection of a crowd that said nothing"},
		{KindClosing, "a connection that came while the port closed"},
	}
}

// wrongSetup are the kinds that a rank of the job may be, one that was started with other settings, that of the job included.
func wrongSetup() []Kind {
	return []Kind{KindVersion, KindTLS, KindClear, KindCertificate, KindJob, KindSecret, KindRefused}
}

// Stats counts the connections of a port.
type Stats struct {
	Accepted uint64    // handed to a handler
	Refused  []Refusal // all others, one entry for each kind, in a fixed order
}

// Refusal counts the connections that were not taken for one reason.
type Refusal struct {
	Kind  Kind
	Count uint64
}

// Total is the number of connections that were not taken.
func (s *Stats) Total() (n uint64) {
	for _, r := range s.Refused {
		n += r.Count
	}
	return n
}

// Of is the number of connections that were not taken for one reason.
func (s *Stats) Of(k Kind) uint64 {
	for _, r := range s.Refused {
		if r.Kind == k {
			return r.Count
		}
	}
	return 0
}

// register counts what a port does not take, and tells the log once for each kind.
type register struct {
	log     *slog.Logger
	counts  map[Kind]*entry // complete from the start
	crowded atomic.Bool     // told that connections could not be accepted
}

// entry is one kind.
type entry struct {
	text  string
	count atomic.Uint64
	last  atomic.Pointer[string] // what the latest one was, for the error of a rank that waits in vain
}

func newRegister(log *slog.Logger) *register {
	r := &register{log: log, counts: map[Kind]*entry{}}
	for _, k := range kinds() {
		r.counts[k.kind] = &entry{text: k.text}
	}
	return r
}

// note counts a stranger.
func (r *register) note(s *stranger, from string) {
	e := r.counts[s.kind]
	detail := fmt.Sprintf("%s from %s: %v", e.text, from, s.detail)
	e.last.Store(&detail)
	if e.count.Add(1) == 1 {
		r.log.Warn("hello: closed "+e.text, slog.String("kind", string(s.kind)), slog.String("from", from), slog.Any("detail", s.detail))
	}
}

// Nonsense counts, besides, a connection whose handler closed it for what it said.
func (l *Listener) Nonsense(conn net.Conn, why error) {
	l.refused.note(&stranger{KindNonsense, why}, conn.RemoteAddr().String())
}

func (r *register) snapshot() (all []Refusal) {
	for _, k := range kinds() {
		all = append(all, Refusal{k.kind, r.counts[k.kind].count.Load()})
	}
	return all
}

// Suspects words the connections that may have been ranks of this job with other settings: "" if there were none. It is for
// the error of somebody who waited for a rank in vain.
func (l *Listener) Suspects() (text string) {
	for _, k := range wrongSetup() {
		e := l.refused.counts[k]
		if n, last := e.count.Load(), e.last.Load(); n > 0 && last != nil {
			text += fmt.Sprintf("; turned away: %s (%d in all)", *last, n)
		}
	}
	return text
}
