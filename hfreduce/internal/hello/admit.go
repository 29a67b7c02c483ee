// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

// meet takes one connection from accept to its handler, or to its end.
func (l *Listener) meet(conn net.Conn) {
	place, ok := l.pending.add(conn)
	if !ok {
		l.refused.Add(1)
		return
	}
	conn.SetDeadline(time.Now().Add(l.opts.HelloTimeout))
	c := caller{l: l, conn: conn, rank: int(l.rank.Load())}
	err := c.prove()
	l.pending.remove(place)
	if err == nil {
		err = c.handOver()
	}
	if err == nil {
		return
	}
	l.refused.Add(1)
	var s *stranger
	if errors.As(err, &s) {
		l.logOnce("closed "+s.kind, slog.String("from", conn.RemoteAddr().String()), slog.Any("detail", s.detail))
	}
	l.farewell(conn, c.words)
}

// caller is one connection during its hello.
type caller struct {
	l     *Listener
	conn  net.Conn
	rank  int    // ours, as told in the challenge
	words []byte // what a refused caller still gets to read

	hello         Hello
	first, second []byte // the messages, for the proofs
}

// refuse prepares the last words and returns the reason.
func (c *caller) refuse(s status, text, kind string, detail error) error {
	id := &c.l.opts.Identity
	r := reply{flags: id.flags(), status: s, rank: c.rank, text: text}
	if c.second != nil { // the dialer proved itself, or failed to: the verdict
		r.text = text[:min(len(text), maxText)]
		r.check = id.listenerProof(c.first, c.second, s, r.text)
	}
	c.words = r.encode()
	return &stranger{kind, detail}
}

// prove runs the hello up to the dialer's proof.
func (c *caller) prove() error {
	id := &c.l.opts.Identity
	r, err := c.readRequest()
	if err != nil {
		return err
	}
	if r.jobTag != id.jobTag(r.nonce) {
		return c.refuse(statusJob, "", kindJob, ErrJob)
	}
	if r.flags&flagSecret != id.flags()&flagSecret {
		return c.refuse(statusSecret, "", kindSecret, errors.New("only one side has a secret"))
	}
	c.hello, c.first = r.hello, r.encode()
	challenge := reply{flags: id.flags(), status: statusOK, rank: c.rank, check: newNonce()}
	second := challenge.encode()
	if _, err := c.conn.Write(second); err != nil {
		return &stranger{kindTruncated, err}
	}
	var proof [sumLength]byte
	if _, err := io.ReadFull(c.conn, proof[:]); err != nil {
		return &stranger{kindTruncated, err}
	}
	c.second = second
	if !equal(proof, id.dialerProof(c.first, second)) {
		return c.refuse(statusSecret, "", kindSecret, fmt.Errorf("it says it is rank %d", r.hello.Rank))
	}
	if c.rank != AnyRank && r.hello.PeerRank != AnyRank && r.hello.PeerRank != c.rank {
		return c.refuse(statusRank, "", kindRank,
			fmt.Errorf("rank %d looked for rank %d here, this is rank %d", r.hello.Rank, r.hello.PeerRank, c.rank))
	}
	return nil
}

// readRequest reads the dialer's first message.
func (c *caller) readRequest() (request, error) {
	var head [prefixLength]byte
	n, err := io.ReadAtLeast(c.conn, head[:], len(magic))
	if err != nil || string(head[:len(magic)]) != magic {
		s := classify(head[:n], err)
		if s.kind == kindHTTP {
			c.words = []byte(httpAnswer)
		}
		return request{}, s
	}
	if _, err := io.ReadFull(c.conn, head[n:]); err != nil {
		return request{}, &stranger{kindTruncated, err}
	}
	p, _ := parsePrefix(head)
	if p.version != Version {
		return request{}, c.refuse(statusVersion, "", kindVersion,
			fmt.Errorf("it speaks version %d, this process version %d; install one hfreduce on all nodes", p.version, Version))
	}
	body, err := readBody(c.conn, p)
	if err == nil {
		var r request
		if r, err = parseRequest(body); err == nil {
			return r, nil
		}
	}
	if errors.Is(err, errMalformed) {
		return request{}, c.refuse(statusMalformed, "", kindMalformed, err)
	}
	return request{}, &stranger{kindTruncated, err}
}

// handOver finds the handler, tells the dialer, and lets the handler serve.
func (c *caller) handOver() error {
	h, ok := c.l.handler(c.hello.Purpose)
	c.conn.SetDeadline(time.Now().Add(lingerTimeout))
	if !ok {
		return c.refuse(statusNotReady, "", kindNotReady, fmt.Errorf("rank %d, %v", c.hello.Rank, c.hello.Purpose))
	}
	if h.Admit != nil {
		if err := h.Admit(c.hello); err != nil {
			return c.refuse(statusRefused, err.Error(), kindRefused, err)
		}
	}
	id := &c.l.opts.Identity
	verdict := reply{flags: id.flags(), status: statusOK, rank: c.rank, check: id.listenerProof(c.first, c.second, statusOK, "")}
	if _, err := c.conn.Write(verdict.encode()); err != nil {
		return &stranger{kindTruncated, err}
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return &stranger{kindTruncated, err}
	}
	c.l.accepted.Add(1)
	h.Serve(c.hello, c.conn)
	return nil
}
