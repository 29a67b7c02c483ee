// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
)

// How long a dialer waits for the two answers. The verdict may take as long as the listener waits for its handler.
const (
	challengeTimeout = 5 * time.Second
	verdictTimeout   = 15 * time.Second
)

// Dial is Dialer.Dial with no more than an identity.
func Dial(ctx context.Context, addr string, id Identity, h Hello) (net.Conn, Hello, error) {
	return (&Dialer{Identity: id}).Dial(ctx, addr, h)
}

// Dialer says hello to listeners.
type Dialer struct {
	Identity Identity
	Control  func(network, address string, c syscall.RawConn) error // as net.Dialer's
	Timeout  time.Duration                                          // for the TCP connection, as net.Dialer's, and then for silence of the host
}

// Dial connects to addr ("host:port") and says hello. It returns the connection, without deadline and with nothing
// read ahead, and what the listener said of itself. ctx bounds the whole call. The errors wrap the sentinels of this
// package or the network's error; all name addr.
func (d *Dialer) Dial(ctx context.Context, addr string, h Hello) (net.Conn, Hello, error) {
	h.Rank = d.Identity.Rank
	if err := h.validate(); err != nil {
		return nil, Hello{}, fmt.Errorf("hello: dial %s: %w", addr, err)
	}
	n := net.Dialer{Control: d.Control, Timeout: d.Timeout}
	n.SetMultipathTCP(false)
	conn, err := n.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, Hello{}, fmt.Errorf("hello: %w", err) // net's text names the address
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // ends any read or write
	d.expect(conn, d.Timeout)
	greeted, rank, err := greet(conn, d.Identity, h)
	d.expect(conn, 0)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		return nil, Hello{}, fmt.Errorf("hello: %s: %w", addr, err)
	}
	return greeted, Hello{Purpose: h.Purpose, Rank: rank, PeerRank: h.Rank}, nil
}

// expect bounds how long the host may be silent, where the dialer has a bound. Without it the deadlines of the hello end it.
func (d *Dialer) expect(conn net.Conn, silence time.Duration) {
	if d.Timeout > 0 {
		_ = pulse.Expect(conn, silence)
	}
}

// greet is the dialer's side of the hello; it returns the connection, over TLS if the identity has it, and the listener's
// rank.
func greet(conn net.Conn, id Identity, h Hello) (net.Conn, int, error) {
	var binding []byte
	if id.TLS != nil {
		s, b, err := id.TLS.request(conn)
		if err != nil {
			return nil, 0, err
		}
		conn, binding = s, b
	}
	r := request{flags: id.flags(), hello: h, nonce: newNonce()}
	r.jobTag = id.jobTag(r.nonce)
	first := r.encode()
	challenge, err := ask(conn, first, challengeTimeout)
	if err != nil {
		return nil, 0, err
	}
	switch challenge.status {
	case statusOK:
	case statusRank, statusRefused, statusNotReady: // who says so has proved itself, and his words are to be believed then
		return nil, 0, fmt.Errorf("%w: an answer that comes behind a proof only", errMalformed)
	default:
		return nil, 0, refusal(challenge, id, h)
	}
	second := challenge.encode()
	proof := id.dialerProof(first, second, binding)
	verdict, err := ask(conn, proof[:], verdictTimeout)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case verdict.status == statusSecret:
		return nil, 0, refusal(verdict, id, h)
	case !equal(verdict.check, id.listenerProof(first, second, binding, verdict.status, verdict.text)):
		return nil, 0, fmt.Errorf("%w: the listener does not know this job's", ErrSecret)
	case verdict.status != statusOK:
		return nil, 0, refusal(verdict, id, h)
	}
	return conn, challenge.rank, nil // covered by the proof, as is the whole challenge
}

// ask sends one message and reads the listener's answer.
func ask(conn net.Conn, message []byte, timeout time.Duration) (reply, error) {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return reply{}, err
	}
	if _, err := conn.Write(message); err != nil {
		return reply{}, cut(err)
	}
	var head [prefixLength]byte
	if n, err := io.ReadFull(conn, head[:]); err != nil {
		return reply{}, unanswered(head[:n], err)
	}
	p, ok := parsePrefix(head)
	if !ok {
		return reply{}, fmt.Errorf("%w: it answered %q", ErrStranger, head[:])
	}
	if p.version != Version {
		return reply{}, fmt.Errorf("%w: it speaks version %d, this process version %d; install one hfreduce on all nodes",
			ErrVersion, p.version, Version)
	}
	body, err := readBody(conn, p)
	if errors.Is(err, errMalformed) {
		return reply{}, err
	}
	if err != nil {
		return reply{}, cut(err)
	}
	return parseReply(body)
}

// unanswered explains an answer that is shorter than a prefix.
func unanswered(got []byte, err error) error {
	switch {
	case len(got) > 0 && string(got) != magic[:min(len(got), len(magic))]:
		return fmt.Errorf("%w: it answered %q", ErrStranger, got)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer to the hello (perhaps it is not an hfreduce port): %w", err)
	}
	return cut(err)
}

// cut is the error of a connection that fails during the hello.
func cut(err error) error {
	switch {
	case remote(err):
		return explainTLS(err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w during the hello: %w", ErrCut, io.ErrUnexpectedEOF)
	case ended(err):
		return fmt.Errorf("%w during the hello: %w", ErrCut, err)
	}
	return fmt.Errorf("during the hello: %w", err)
}

// refusal is the error for a status that is not OK.
func refusal(r reply, id Identity, h Hello) error {
	base := r.status.err()
	switch {
	case r.status == statusSecret && len(id.Secret) == 0:
		return fmt.Errorf("%w: the job has one, this process has none; set HFREDUCE_SECRET or HFREDUCE_SECRET_FILE", base)
	case r.status == statusSecret && r.flags&flagSecret == 0:
		return fmt.Errorf("%w: this process has one, the listener has none; set HFREDUCE_SECRET or HFREDUCE_SECRET_FILE on all ranks or on none", base)
	case r.status == statusSecret:
		return fmt.Errorf("%w: give all ranks the same HFREDUCE_SECRET or HFREDUCE_SECRET_FILE", base)
	case r.status == statusTLS:
		return fmt.Errorf("%w: the listener does, this process does not; set HFREDUCE_TLS_CERT, HFREDUCE_TLS_KEY and "+
			"HFREDUCE_TLS_CA on all ranks or on none", base)
	case r.status == statusRank:
		return fmt.Errorf("%w: rank %d, not %d", base, r.rank, h.PeerRank)
	case r.status == statusRefused:
		return fmt.Errorf("%w by rank %d: %s", base, r.rank, r.text)
	}
	return base
}
