// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"errors"
	"fmt"
)

// Version is the protocol version. Both sides of a connection must have the same.
const Version uint16 = 1

// MaxToken is the most bytes that Hello.Token may have.
const MaxToken = 4096

// AnyRank as Hello.PeerRank accepts whatever rank listens; as a Listener's own rank it means "not known yet".
const AnyRank = -1

// Purpose sorts the connections of a port.
type Purpose uint8

// The purposes.
const (
	Control Purpose = 1 // rendezvous and control channel (package bootstrap)
	Data    Purpose = 2 // links (package transport/tcp)
)

// String names the purpose.
func (p Purpose) String() string {
	switch p {
	case Control:
		return "control"
	case Data:
		return "data"
	}
	return fmt.Sprintf("purpose(%d)", uint8(p))
}

// Identity is what a process knows about itself and its job.
type Identity struct {
	JobID  string // equal on all ranks; keeps two jobs on one machine apart
	Secret []byte // equal on all ranks; empty: connections are told apart by JobID only, without proof
	Rank   int
	TLS    *TLS // on all ranks or on none; nil: connections are neither encrypted nor protected against changes
}

// Hello is what a dialer says, and for the dialer what the listener answered.
type Hello struct {
	Purpose  Purpose
	Rank     int    // of the side that speaks
	PeerRank int    // whom it wants to reach; AnyRank: whoever listens
	Token    []byte // the purpose's own, at most MaxToken bytes
}

// Errors of Dial, to be tested with errors.Is. Each comes wrapped with the address and the details.
var (
	// ErrVersion: the other side speaks another protocol version. The text names both.
	ErrVersion = errors.New("different protocol versions")
	// ErrJob: the listener belongs to another job.
	ErrJob = errors.New("the port belongs to another hfreduce job")
	// ErrSecret: the two sides have the same job id but not the same secret.
	ErrSecret = errors.New("job secrets differ")
	// ErrRank: the listener is another rank than the dialer wanted.
	ErrRank = errors.New("another rank listens here")
	// ErrRefused: the listener's handler refused; the text says why.
	ErrRefused = errors.New("refused")
	// ErrNotReady: nobody on the listener's side took connections of this purpose in time, or it is closing. Worth a retry.
	ErrNotReady = errors.New("the peer does not take connections of this purpose yet")
	// ErrStranger: what listens there is not hfreduce.
	ErrStranger = errors.New("the port belongs to a program that is not hfreduce")
	// ErrTLS: only one of the two sides uses TLS.
	ErrTLS = errors.New("only one side uses TLS")
	// ErrCertificate: one side does not take the other's certificate.
	ErrCertificate = errors.New("a certificate is not accepted")
	// ErrCut: the connection ended during the hello. A listener does that to connections when too many come. Worth a retry.
	ErrCut = errors.New("the connection ended")
	// ErrClosed: the Listener was closed.
	ErrClosed = errors.New("hello: listener is closed")
)

// errMalformed: bytes that begin like a hello but are not one.
var errMalformed = errors.New("malformed hello")
