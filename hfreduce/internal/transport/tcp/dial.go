// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

const (
	stagger    = 200 * time.Millisecond // how long one address may try alone before the next one joins
	retryPause = 50 * time.Millisecond  // before the addresses are tried again, when the peer was not ready
	openWait   = 5 * time.Second        // for the frame that tells which connection was chosen
	cutWait    = 20 * time.Second       // how long a peer is tried that ends connections during the hello, as in a crowd
)

// failure is an address that did not lead to the peer.
type failure struct {
	addr netip.AddrPort
	err  error
}

// dialError lists why no address leads to the peer.
type dialError struct {
	peer     int
	failures []failure
}

func (e *dialError) Error() string {
	s := make([]string, len(e.failures))
	for i, f := range e.failures {
		s[i] = fmt.Sprintf("%v: %v", f.addr, f.err)
	}
	return fmt.Sprintf("no address of rank %d leads to it: %s", e.peer, strings.Join(s, "; "))
}

func (e *dialError) Unwrap() []error {
	errs := make([]error, len(e.failures))
	for i, f := range e.failures {
		errs[i] = f.err
	}
	return errs
}

// unreachable reports whether no address led to a host that answers: not even a refusal came, or nothing more did.
func (e *dialError) unreachable() bool {
	for _, f := range e.failures {
		var op *net.OpError
		if !pulse.Cut(f.err) && !(errors.As(f.err, &op) && op.Op == "dial" && op.Timeout()) {
			return false
		}
	}
	return len(e.failures) > 0
}

// dial connects to a peer and waits until it wants the link, too.
func (t *Transport) dial(ctx context.Context, peer int, key string) (net.Conn, error) {
	addrs := t.cfg.Peers(peer)
	if len(addrs) == 0 {
		return nil, errors.New("no address of it is known")
	}
	h := hello.Hello{Purpose: hello.Data, Rank: t.cfg.Rank, PeerRank: peer, Token: []byte(key)}
	d := hello.Dialer{Identity: t.cfg.Identity, Timeout: t.cfg.Heartbeat}
	if t.cfg.near(peer) {
		d.Control = nearControl
	}
	greet := func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		conn, answer, err := d.Dial(ctx, addr.String(), h)
		if err == nil && answer.Rank != peer {
			conn.Close()
			err = fmt.Errorf("%w: rank %d answered", hello.ErrRank, answer.Rank)
		}
		return conn, err
	}
	for first := time.Now(); ; {
		began := time.Now()
		conn, failures := race(ctx, addrs, stagger, greet)
		if conn != nil {
			t.keep(conn)
			t.logLink(peer, conn, time.Since(began), failures)
			err := t.openAt(ctx, conn)
			if pulse.Cut(err) {
				err = &transport.PeerError{Peer: peer, Transport: Name, Addr: conn.RemoteAddr().String(),
					Err: fmt.Errorf("its host does not answer rank %d: %w", t.cfg.Rank, err)}
			}
			return conn, err
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%w (%w)", context.Cause(ctx), &dialError{peer, failures})
		}
		err := &dialError{peer, failures}
		crowded := errors.Is(err, hello.ErrCut) && time.Since(first) < cutWait
		stopped := errors.Is(err, os.ErrDeadlineExceeded) // its process
		switch {
		case err.unreachable():
			return nil, &transport.PeerError{Peer: peer, Transport: Name, Addr: addrs[0].String(),
				Err: fmt.Errorf("its host did not answer rank %d for %v: %w", t.cfg.Rank, t.cfg.Heartbeat, err)}
		case !errors.Is(err, hello.ErrNotReady) && !crowded && !stopped:
			return nil, err
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
}

// openAt is open with a host that may go silent meanwhile.
func (t *Transport) openAt(ctx context.Context, conn net.Conn) error {
	_ = pulse.Expect(conn, t.cfg.Heartbeat) // without it the kernel takes longer
	defer func() { _ = pulse.Expect(conn, 0) }()
	return open(ctx, conn)
}

// logLink tells which of a peer's addresses a link uses, and why not an earlier one.
func (t *Transport) logLink(peer int, conn net.Conn, took time.Duration, failures []failure) {
	args := []any{
		slog.Int("peer", peer), slog.String("transport", Name), slog.String("address", conn.RemoteAddr().String()),
		slog.String("interface", interfaceOf(conn.LocalAddr())), slog.Duration("proven_in", took),
	}
	for _, f := range failures {
		args = append(args, slog.String("instead_of "+f.addr.String(), f.err.Error()))
	}
	t.log.Info("link", args...)
}

// interfaceOf names the network interface that has an address, or "?".
func interfaceOf(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	ifs, err := net.Interfaces()
	if !ok || err != nil {
		return "?"
	}
	for _, i := range ifs {
		nets, _ := i.Addrs()
		for _, n := range nets {
			if ipnet, ok := n.(*net.IPNet); ok && ipnet.IP.Equal(tcp.IP) {
				return i.Name
			}
		}
	}
	return "?"
}

// open tells the peer that this connection is the link, and waits until it says so, too. It closes conn on error.
func open(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err := sendOpen(conn)
	if err == nil {
		err = readOpen(conn)
	}
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("the peer gave up the connection before it wanted the link: %w", err)
		}
	}
	return err
}

func sendOpen(conn net.Conn) error {
	var b [headerBytes]byte
	(&header{kind: kindOpen}).encode(&b)
	_, err := conn.Write(b[:])
	return err
}

func readOpen(conn net.Conn) error {
	var b [headerBytes]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return err
	}
	h, err := decode(b[:])
	if err == nil && h.kind != kindOpen {
		err = fmt.Errorf("%w: the first frame is not an open", transport.ErrProtocol)
	}
	return err
}

// race tries the addresses in order, each after the one before it failed or had its time alone. The first connection
// wins, the others are closed. failures are those of before.
func race(ctx context.Context, addrs []netip.AddrPort, alone time.Duration,
	dial func(context.Context, netip.AddrPort) (net.Conn, error)) (net.Conn, []failure) {
	type result struct {
		conn net.Conn
		failure
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	timer := time.NewTimer(alone)
	defer timer.Stop()
	var winner net.Conn
	var failures []failure
	started, running := 0, 0
	next := func() {
		if started < len(addrs) && winner == nil && ctx.Err() == nil {
			addr := addrs[started]
			started++
			running++
			go func() {
				conn, err := dial(ctx, addr)
				results <- result{conn, failure{addr, err}}
			}()
			timer.Reset(alone)
		}
	}
	for next(); running > 0; {
		select {
		case <-timer.C:
			next()
		case r := <-results:
			running--
			switch {
			case r.err != nil && winner == nil:
				failures = append(failures, r.failure)
				next()
			case r.err == nil && winner == nil:
				winner = r.conn
				cancel()
			case r.err == nil:
				r.conn.Close()
			}
		}
	}
	return winner, failures
}
