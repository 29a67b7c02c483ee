// SPDX-License-Identifier: Apache-2.0

// Package tcp carries messages between ranks over TCP sockets, IPv4 or IPv6, one for each link.
//
// The smaller rank of a pair dials the other's port, which package hello guards; the other one parks the connection
// until it wants the link, too. From then on the socket is out of Go's poller: the goroutine that drives the rank reads
// and writes it by system calls that do not wait, and sleeps on its bell. Where the job uses TLS, the same goroutine encrypts.
//
// Read on: transport.go and dial.go, park.go (meeting), link.go, send.go, receive.go, frame.go (data), secure.go (TLS),
// linger.go (end).
package tcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// Name is the transport's name.
const Name = "tcp"

// maxKey bounds the key of a link; it travels as the hello's token.
const maxKey = 1024

// Config is what a rank's transport needs to know.
type Config struct {
	Rank     int
	Identity hello.Identity                  // the job's; its rank is not looked at
	Listener *hello.Listener                 // this rank's port. New registers the handler of hello.Data
	Peers    func(rank int) []netip.AddrPort // where a rank may be reached, best first; nil for a rank that does not exist
	Near     func(rank int) bool             // whether a rank runs on this machine; nil: none does
	Logger   *slog.Logger                    // nil: none

	// SendBuffer and ReceiveBuffer fix the kernel's buffers of each link, in bytes. Zero leaves them to the kernel, which
	// adapts them to the path; that is right but in tests.
	SendBuffer, ReceiveBuffer int
	// Heartbeat is how long a peer's host may be silent before the kernel ends an idle connection to it, and before it counts
	// as lost when a connection is to be made. Zero means pulse.Usual.
	Heartbeat time.Duration
	// ParkTimeout is how long a connection of a peer waits for this rank's Connect. Zero means for as long as the peer does, which
	// knows how late this rank may be.
	ParkTimeout time.Duration
	// MaxParked is how many connections may wait at most; more are refused. Zero means 4096.
	MaxParked int
}

// Transport makes the TCP links of one rank.
type Transport struct {
	cfg  Config
	log  *slog.Logger
	lot  *lot
	life context.Context // ends with Close
	end  context.CancelCauseFunc

	systemCongestion string // the system's choice, if the listener has another one

	mu     sync.Mutex
	closed bool
	busy   sync.WaitGroup // goroutines of parked and lingering connections; grows only under mu while not closed
}

var _ transport.Transport = (*Transport)(nil)

// New returns the transport of a rank and takes the data connections of its port from now on.
func New(cfg Config) *Transport {
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = pulse.Usual
	}
	if cfg.MaxParked <= 0 {
		cfg.MaxParked = 4096
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Identity.Rank = cfg.Rank
	t := &Transport{cfg: cfg, log: cfg.Logger, lot: newLot(cfg.MaxParked)}
	t.life, t.end = context.WithCancelCause(context.Background())
	t.prepareListener()
	cfg.Listener.Handle(hello.Data, hello.Handler{Admit: t.admit, Serve: t.serve})
	return t
}

// Name returns "tcp".
func (t *Transport) Name() string { return Name }

// Connect implements transport.Transport. The error of a dial names every address that was tried, with its cause.
func (t *Transport) Connect(ctx context.Context, peer int, key string, cfg transport.LinkConfig) (transport.Link, error) {
	conn, err := t.Meet(ctx, peer, key)
	if err != nil {
		return nil, err
	}
	return t.Adopt(conn, peer, cfg)
}

// Meet returns a connection to peer once the peer has called Meet, or Connect, with this rank and the same key. Both ranks
// have proven to be of the job, and both know that the other one has the connection.
func (t *Transport) Meet(ctx context.Context, peer int, key string) (net.Conn, error) {
	conn, err := t.meet(ctx, peer, key)
	if err != nil {
		return nil, t.connectError(peer, err)
	}
	return conn, nil
}

func (t *Transport) connectError(peer int, err error) error {
	return fmt.Errorf("tcp: connect rank %d to rank %d: %w", t.cfg.Rank, peer, err)
}

func (t *Transport) meet(ctx context.Context, peer int, key string) (net.Conn, error) {
	if peer < 0 || peer == t.cfg.Rank {
		return nil, errors.New("no such peer")
	}
	if len(key) > maxKey {
		return nil, fmt.Errorf("the key has %d bytes, at most %d are allowed", len(key), maxKey)
	}
	ctx, stop := t.bound(ctx)
	defer stop()
	if t.cfg.Rank < peer {
		return t.dial(ctx, peer, key)
	}
	return t.fetch(ctx, place{peer, key})
}

// Adopt makes a link of a connection that Meet returned, on which nothing is under way. The connection is the link's, also
// if there is an error.
func (t *Transport) Adopt(conn net.Conn, peer int, cfg transport.LinkConfig) (transport.Link, error) {
	addr := conn.RemoteAddr().String()
	var secure *secureStream
	if s, ok := conn.(*hello.Secure); ok {
		secure, conn = newSecureStream(s)
	}
	fd, err := detach(conn, t.cfg.SendBuffer, t.cfg.ReceiveBuffer)
	if err != nil {
		return nil, t.connectError(peer, err)
	}
	if t.cfg.Rank > peer && !t.cfg.near(peer) {
		t.restoreCongestion(fd)
	}
	l := newLink(fd, peer, addr, &cfg, secure, t.linger)
	l.self = t.cfg.Rank
	return l, nil
}

// keep makes the kernel watch a connection while it is idle. Where an option is refused, it is slower to notice that the peer's
// host has vanished.
func (t *Transport) keep(conn net.Conn) {
	if err := pulse.Do(conn, func(fd int) error { return pulse.Keep(fd, t.cfg.Heartbeat) }); err != nil {
		t.log.Debug("tcp: no keepalive", "address", conn.RemoteAddr().String(), "error", err)
	}
}

// bound returns a context that also ends with the transport.
func (t *Transport) bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(t.life, func() { cancel(context.Cause(t.life)) })
	return ctx, func() { stop(); cancel(nil) }
}

// start runs f on a goroutine that Close waits for, or reports false after Close.
func (t *Transport) start(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.busy.Go(f)
	return true
}

// Close implements transport.Transport. It waits at most lingerTimeout.
func (t *Transport) Close() error {
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	t.mu.Unlock()
	if first {
		t.cfg.Listener.Handle(hello.Data, hello.Handler{})
		t.end(transport.ErrClosed)
		t.lot.close()
	}
	t.busy.Wait()
	return nil
}
