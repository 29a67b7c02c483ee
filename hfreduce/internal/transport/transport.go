// SPDX-License-Identifier: Apache-2.0

// Package transport is the contract between the engine and what carries bytes between ranks on different nodes.
//
// It is shaped by its least flexible member, RDMA verbs: memory is known in advance, a message is posted and completes
// later, and what arrives lands by itself in an area that the receiver named when the link was made (a
// RDMA_WRITE_WITH_IMM into a registered slot). TCP and the in-process transport adapt to that.
//
// # The way of a message
//
//	sender                                            receiver
//	                                  Limit() ◀────── Grant(limit): items before limit have a free landing area
//	Post(landing, seq, tag, payload) ───────────────▶ bytes land in Landings[landing]
//	Poll: Sent                                        Poll: Received(landing, seq, tag, bytes)
//	the payload may be overwritten                    the area is the engine's until it grants a later item
//
// Messages of one link arrive in the order of their posts. Bytes may land any time between Post and Received, so an area
// must be free when its item is granted, and at most one message may be on its way to an area.
//
// # Sleeping
//
// A link moves bytes only inside Post, Poll and Flush. Before the owner sleeps it arms its bell and polls every link
// once more; it may sleep when every one of these polls returned no event and no error. The link then ends the sleep
// when there is anything to do. Such a Poll can still have raised Limit.
//
// # Errors
//
// Post tells its caller's own mistakes with ErrNoCredit and ErrPosts, which change nothing. Everything else breaks the
// link for good: every later call returns the same error, a *PeerError. Events that were complete before the break are
// returned first. After the error, as after Close, the link touches neither payloads nor landing areas.
//
// Read on: credits.go (grants), tcp/link.go (the transport that runs everywhere), transporttest (what every transport
// is tested for).
package transport

import (
	"context"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// Message is one posted piece. It lands at the start of the receiver's landing area number Landing.
type Message struct {
	Landing uint32 // index in the receiver's LinkConfig.Landings
	Seq     uint32 // the item it is part of; must be before the link's Limit
	Tag     uint32 // carried as it is
	Sum     uint32 // the same: what the caller makes of the payload, to find out at the other end whether it arrived intact
	Payload []byte // untouched by the caller until Sent; may be empty
}

// EventKind tells what an Event reports.
type EventKind uint8

// The kinds of events.
const (
	// Sent: the payload may be overwritten. It says nothing about the receiver.
	Sent EventKind = iota + 1
	// Received: the bytes are in the own landing area.
	Received
)

// String names the kind.
func (k EventKind) String() string {
	switch k {
	case Sent:
		return "sent"
	case Received:
		return "received"
	}
	return "invalid event"
}

// Event is a completion: of an own post, or of the landing of a peer's.
type Event struct {
	Kind              EventKind
	Landing, Seq, Tag uint32 // of the message; Landing numbers the receiver's areas
	Sum               uint32 // of the message
	Bytes             int    // length of the payload
}

// LinkConfig is one end of a link.
type LinkConfig struct {
	// Landings are the areas that the peer's messages land in; their index is the landing id. Empty areas are allowed.
	// Neither the slice nor the areas may change while the link is open.
	Landings [][]byte
	// Bell is the owner's; it ends the owner's sleep when the link has something to do. Transports over descriptors
	// call its Watch, from the goroutine that polls.
	Bell wait.Bell
	// Window is the number of items that the peer may have in flight at most, i.e. slots. A grant that has not been
	// told to the peer is sent by itself, in the next Poll, once it is Window/2 items (at least 1) ahead of what was.
	Window uint32
	// Start is the first sequence number of the link: both Limits begin there. Equal on both sides.
	Start uint32
	// MaxPosts is how many posts may be outstanding, i.e. without their Sent event returned. Zero means DefaultMaxPosts.
	MaxPosts int
}

// DefaultMaxPosts is what LinkConfig.MaxPosts = 0 means.
const DefaultMaxPosts = 64

// Posts returns MaxPosts or its default.
func (c *LinkConfig) Posts() int {
	if c.MaxPosts > 0 {
		return c.MaxPosts
	}
	return DefaultMaxPosts
}

// Link is a connected path to one peer. One goroutine uses it at a time; it may be another one for each call, if the
// calls happen one after the other. No method blocks, and in steady state none allocates.
type Link interface {
	// Peer returns the rank at the other end.
	Peer() int
	// Transport returns the name of what carries the link, e.g. "tcp". A transport may make links of another one.
	Transport() string
	// Post queues the message; it leaves in the next Poll or Flush at the latest, together with what was posted before it.
	// Errors: ErrNoCredit, ErrPosts (nothing has changed), or the broken link's *PeerError, ErrClosed.
	Post(m Message) error
	// Poll moves bytes both ways, a bounded amount, and fills ev with completions; len(ev) must be at least 1. An error
	// comes with no events; it is sticky.
	Poll(ev []Event) (int, error)
	// Grant allows the peer to post items before limit (compared with wrapping, see Before). A limit that is not after
	// the latest one is ignored. The peer learns it with the next message to it, or by the Window/2 rule, or by Flush.
	Grant(limit uint32)
	// Limit returns the peer's latest grant as far as it is known here: items before it may be posted. Poll raises it.
	Limit() uint32
	// Flush sends the latest grant by itself if the peer has not been told, whatever the Window/2 rule says. What does
	// not leave at once leaves in later polls. Error: the broken link's.
	Flush() error
	// Close ends the link; further calls do nothing and return nil. What was reported Sent still reaches the peer, who
	// then gets ErrPeerClosed; posts that were not are dropped, and the peer sees a broken link. Later calls of other
	// methods return ErrClosed.
	Close() error
}

// Redirector is a Link that can let a message land elsewhere than in its landing area, so that nobody need copy it from
// there. A link whose peer writes to the areas by itself, as with RDMA, is none.
type Redirector interface {
	// Redirect makes the message of item seq to the landing area number landing, which has not been Received, land at the
	// start of area, and reports whether it will: not if some of it has landed already. It holds for this one message,
	// which must fit. Once that is Received, or the link broken or closed, the link does not touch area any more.
	Redirect(landing, seq uint32, area []byte) bool
}

// Selective is a Link that cannot send from any memory, as with RDMA, whose device reads registered memory only.
type Selective interface {
	// Sends reports whether the bytes may be a Message's Payload as they lie. Post of others is a mistake of the caller's.
	Sends(payload []byte) bool
}

// Prober is a Link that does not notice by itself, or not soon, that the peer's host cannot be reached any more.
type Prober interface {
	// Alive is called when Poll has no more events. It looks whether the host answers and returns the broken link's *PeerError once it has not for bound. A process that
	// is stopped on a host that answers is alive. It is for owners that wait: it costs a system call, and finds a silence
	// only if it is called from time to time.
	Alive(bound time.Duration) error
}

// Registrar is a Transport that must know memory before its links may send from it and land in it.
type Registrar interface {
	// Register makes memory known, which must be mapped memory, not the Go heap, until the returned function is called.
	// That has to happen after the links that use it are closed. Memory that cannot be registered is an error only if the
	// transport has no other way to carry data.
	Register(mem []byte) (unregister func() error, err error)
}

// Transport makes one rank's links. It may be used by many goroutines.
type Transport interface {
	// Name is the transport's name as users write it, e.g. "tcp".
	Name() string
	// Connect makes the link to peer; the peer calls Connect with this rank and the same key, which names the link
	// among all links of the two. It returns when the peer has done so too: connect to several peers from as many
	// goroutines, or ranks may wait for each other in a circle. Nothing remains of a Connect that returned an error;
	// when ctx ended, the error wraps its cause.
	Connect(ctx context.Context, peer int, key string, cfg LinkConfig) (Link, error)
	// Close makes pending and later Connects return ErrClosed. Links that are open stay open and stay their owner's;
	// Close waits, for a bounded time, until what closed links had Sent is delivered.
	Close() error
}
