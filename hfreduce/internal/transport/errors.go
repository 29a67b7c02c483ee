// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"errors"
	"fmt"
)

// The errors of links and transports; test with errors.Is.
var (
	// ErrPeerLost: the link is broken, for whatever reason. Every *PeerError wraps it.
	ErrPeerLost = errors.New("transport: peer lost")
	// ErrPeerClosed: the peer closed its end after everything that it had posted was sent. Who expects nothing more
	// from it need not mind. A *PeerError that wraps it also wraps ErrPeerLost.
	ErrPeerClosed = errors.New("it closed the link")
	// ErrProtocol: the peer sent what no peer may send. A *PeerError that wraps it also wraps ErrPeerLost.
	ErrProtocol = errors.New("protocol error")
	// ErrClosed: this end was closed by its owner.
	ErrClosed = errors.New("transport: link is closed")
	// ErrNoCredit: Post of an item that the peer has not granted.
	ErrNoCredit = errors.New("transport: the peer has not granted the item")
	// ErrPosts: Post with LinkConfig.MaxPosts posts outstanding.
	ErrPosts = errors.New("transport: too many posts are outstanding")
)

// PeerError says that the link to a peer is broken, and why.
type PeerError struct {
	Peer      int    // rank
	Transport string // Transport.Name
	Addr      string // the peer's address, empty if the transport has none
	Err       error  // the cause
}

// Error returns one line.
func (e *PeerError) Error() string {
	where := e.Transport
	if e.Addr != "" {
		where += " " + e.Addr
	}
	return fmt.Sprintf("%v: rank %d (%s): %v", ErrPeerLost, e.Peer, where, e.Err)
}

// Unwrap returns ErrPeerLost and the cause.
func (e *PeerError) Unwrap() []error { return []error{ErrPeerLost, e.Err} }
