// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// meet takes one connection from accept to its handler, or to its end.
func (l *Listener) meet(conn net.Conn, place *ticket) {
	conn.SetDeadline(time.Now().Add(l.opts.HelloTimeout))
	c := caller{l: l, conn: conn, place: place, rank: int(l.rank.Load())}
	err := c.prove()
	stayed := l.pending.remove(place)
	if err == nil && stayed {
		err = c.handOver()
	}
	var s *stranger
	switch {
	case !stayed:
		s = &stranger{KindCrowded, fmt.Errorf("more than %d connections have not said who they are", l.pending.limit)}
	case err == nil:
		return
	case l.closing():
		s = &stranger{KindClosing, err}
	case !errors.As(err, &s):
		s = &stranger{KindMalformed, err}
	}
	l.refused.note(s, conn.RemoteAddr().String())
	l.farewell(c.conn, c.words)
}

// caller is one connection during its hello.
type caller struct {
	l     *Listener
	conn  net.Conn
	place *ticket
	rank  int    // ours, as told in the challenge
	words []byte // what a refused caller still gets to read

	hello         Hello
	first, second []byte // the messages, for the proofs
	binding       []byte // of TLS
}

// refuse prepares the last words and returns the reason.
func (c *caller) refuse(s status, text string, kind Kind, detail error) error {
	id := &c.l.opts.Identity
	r := reply{flags: id.flags(), status: s, rank: c.rank, text: text}
	if c.second != nil { // the dialer proved itself, or failed to: the verdict
		r.text = text[:min(len(text), maxText)]
		r.check = id.listenerProof(c.first, c.second, c.binding, s, r.text)
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
		return c.refuse(statusJob, "", KindJob, errors.New("its HFREDUCE_JOB_ID is another, or its launcher's job"))
	}
	if id.TLS != nil && c.binding == nil {
		return c.refuse(statusTLS, "", KindClear, fmt.Errorf("rank %d, by what it says; this job uses TLS, set HFREDUCE_TLS_CERT, "+
			"HFREDUCE_TLS_KEY and HFREDUCE_TLS_CA on all ranks or on none", r.hello.Rank))
	}
	if r.flags&flagSecret != id.flags()&flagSecret {
		return c.refuse(statusSecret, "", KindSecret, errors.New("only one side has a secret"))
	}
	c.l.pending.promote(c.place)
	c.hello, c.first = r.hello, r.encode()
	challenge := reply{flags: id.flags(), status: statusOK, rank: c.rank, check: newNonce()}
	second := challenge.encode()
	if _, err := c.conn.Write(second); err != nil {
		return brokenOff(err)
	}
	var proof [sumLength]byte
	if _, err := io.ReadFull(c.conn, proof[:]); err != nil {
		return brokenOff(err)
	}
	c.second = second
	if !equal(proof, id.dialerProof(c.first, second, c.binding)) {
		return c.refuse(statusSecret, "", KindSecret, fmt.Errorf("it says it is rank %d", r.hello.Rank))
	}
	if c.rank != AnyRank && r.hello.PeerRank != AnyRank && r.hello.PeerRank != c.rank {
		return c.refuse(statusRank, "", KindRank,
			fmt.Errorf("rank %d looked for rank %d here, this is rank %d", r.hello.Rank, r.hello.PeerRank, c.rank))
	}
	return nil
}

// readHead reads the prefix of the dialer's first message, or finds out who else speaks.
func (c *caller) readHead() (p prefix, err error) {
	var head [prefixLength]byte
	n, err := io.ReadAtLeast(c.conn, head[:], len(magic))
	if isTLS(head[:n]) && c.l.opts.Identity.TLS != nil && c.binding == nil {
		if err := c.admission(head[:n]); err != nil {
			return p, err
		}
		return c.readHead()
	}
	if err != nil || string(head[:len(magic)]) != magic {
		s := classify(head[:n], err)
		switch s.kind {
		case KindHTTP:
			c.words = []byte(httpAnswer)
		case KindTLS: // it may be a rank of this job, which knows this answer
			return p, c.refuse(statusTLS, "", s.kind, s.detail)
		}
		return p, s
	}
	if _, err := io.ReadFull(c.conn, head[n:]); err != nil {
		return p, brokenOff(err)
	}
	p, _ = parsePrefix(head)
	return p, nil
}

// readRequest reads the dialer's first message.
func (c *caller) readRequest() (request, error) {
	p, err := c.readHead()
	if err != nil {
		return request{}, err
	}
	if p.version != Version {
		return request{}, c.refuse(statusVersion, "", KindVersion,
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
		return request{}, c.refuse(statusMalformed, "", KindMalformed, err)
	}
	return request{}, brokenOff(err)
}

// handOver finds the handler, tells the dialer, and lets the handler serve.
func (c *caller) handOver() error {
	h, ok := c.l.handler(c.hello.Purpose)
	c.conn.SetDeadline(time.Now().Add(lingerTimeout))
	if !ok {
		return c.refuse(statusNotReady, "", KindNotReady, fmt.Errorf("rank %d, %v", c.hello.Rank, c.hello.Purpose))
	}
	if h.Admit != nil {
		if err := h.Admit(c.hello); err != nil {
			return c.refuse(statusRefused, err.Error(), KindRefused, err)
		}
	}
	id := &c.l.opts.Identity
	verdict := reply{flags: id.flags(), status: statusOK, rank: c.rank, check: id.listenerProof(c.first, c.second, c.binding, statusOK, "")}
	if _, err := c.conn.Write(verdict.encode()); err != nil {
		return brokenOff(err)
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return brokenOff(err)
	}
	c.l.accepted.Add(1)
	h.Serve(c.hello, c.conn)
	return nil
}
