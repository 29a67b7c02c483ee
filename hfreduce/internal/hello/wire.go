// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// Sizes in bytes. All integers are big endian.
//
//	prefix:  magic 4, version 2, length of the body 2
//	hello:   prefix | flags 1, purpose 1, rank 4, peer rank 4, nonce 32, job tag 32, token (the rest)
//	reply:   prefix | flags 1, status 1, rank 4, check 32, text (the rest)      (challenge and verdict)
//	proof:   32
const (
	magic        = "HFRD"
	prefixLength = 8
	helloFixed   = 74
	replyFixed   = 38
	maxText      = 2048 // of a refusal
	sumLength    = 32
)

// flagSecret in the flags says that the speaker has a job secret; it only serves to name the fault.
const flagSecret = 1

// status is the listener's answer.
type status uint8

const (
	statusOK status = iota
	statusVersion
	statusJob
	statusSecret
	statusRank
	statusRefused
	statusNotReady
	statusMalformed
	statusTLS // the listener uses TLS and the dialer does not, or the other way round
)

// err is the dialer's error for the status; nil for statusOK.
func (s status) err() error {
	switch s {
	case statusOK:
		return nil
	case statusVersion:
		return ErrVersion
	case statusJob:
		return ErrJob
	case statusSecret:
		return ErrSecret
	case statusRank:
		return ErrRank
	case statusRefused:
		return ErrRefused
	case statusNotReady:
		return ErrNotReady
	case statusTLS:
		return ErrTLS
	}
	return errMalformed
}

// request is the dialer's first message.
type request struct {
	flags  byte
	hello  Hello
	nonce  [sumLength]byte
	jobTag [sumLength]byte
}

// reply is a message of the listener: the challenge (check is its nonce) or the verdict (check is its proof).
type reply struct {
	flags  byte
	status status
	rank   int
	check  [sumLength]byte
	text   string
}

func appendPrefix(b []byte, bodyLength int) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, Version)
	return binary.BigEndian.AppendUint16(b, uint16(bodyLength))
}

func (r *request) encode() []byte {
	length := helloFixed + len(r.hello.Token)
	b := appendPrefix(make([]byte, 0, prefixLength+length), length)
	b = append(b, r.flags, byte(r.hello.Purpose))
	b = binary.BigEndian.AppendUint32(b, uint32(int32(r.hello.Rank)))
	b = binary.BigEndian.AppendUint32(b, uint32(int32(r.hello.PeerRank)))
	b = append(b, r.nonce[:]...)
	b = append(b, r.jobTag[:]...)
	return append(b, r.hello.Token...)
}

// parseRequest reads the body (without the prefix) of a dialer's first message.
func parseRequest(body []byte) (request, error) {
	var r request
	if len(body) < helloFixed || len(body) > helloFixed+MaxToken {
		return r, fmt.Errorf("%w: a hello of %d bytes", errMalformed, len(body))
	}
	r.flags = body[0]
	r.hello = Hello{
		Purpose:  Purpose(body[1]),
		Rank:     int(int32(binary.BigEndian.Uint32(body[2:]))),
		PeerRank: int(int32(binary.BigEndian.Uint32(body[6:]))),
		Token:    body[helloFixed:],
	}
	copy(r.nonce[:], body[10:])
	copy(r.jobTag[:], body[10+sumLength:])
	return r, r.hello.validate()
}

// validate checks what both sides may say.
func (h *Hello) validate() error {
	switch {
	case h.Purpose != Control && h.Purpose != Data:
		return fmt.Errorf("%w: unknown %v", errMalformed, h.Purpose)
	case h.Rank < 0 || h.Rank > math.MaxInt32:
		return fmt.Errorf("%w: rank %d", errMalformed, h.Rank)
	case h.PeerRank < AnyRank || h.PeerRank > math.MaxInt32:
		return fmt.Errorf("%w: peer rank %d", errMalformed, h.PeerRank)
	case len(h.Token) > MaxToken:
		return fmt.Errorf("%w: a token of %d bytes, at most %d are allowed", errMalformed, len(h.Token), MaxToken)
	}
	return nil
}

func (r *reply) encode() []byte {
	text := r.text[:min(len(r.text), maxText)]
	length := replyFixed + len(text)
	b := appendPrefix(make([]byte, 0, prefixLength+length), length)
	b = append(b, r.flags, byte(r.status))
	b = binary.BigEndian.AppendUint32(b, uint32(int32(r.rank)))
	b = append(b, r.check[:]...)
	return append(b, text...)
}

// parseReply reads the body (without the prefix) of a listener's message.
func parseReply(body []byte) (reply, error) {
	var r reply
	if len(body) < replyFixed || len(body) > replyFixed+maxText {
		return r, fmt.Errorf("%w: an answer of %d bytes", errMalformed, len(body))
	}
	r.flags = body[0]
	r.status = status(body[1])
	r.rank = int(int32(binary.BigEndian.Uint32(body[2:])))
	copy(r.check[:], body[6:])
	r.text = string(body[replyFixed:])
	if r.rank < AnyRank {
		return r, fmt.Errorf("%w: rank %d", errMalformed, r.rank)
	}
	return r, nil
}

// prefix is the start of a message, the part that stays the same in every version.
type prefix struct {
	version uint16
	length  int
}

// parsePrefix reads the 8 bytes. It reports false if the magic is missing.
func parsePrefix(b [prefixLength]byte) (prefix, bool) {
	return prefix{binary.BigEndian.Uint16(b[4:]), int(binary.BigEndian.Uint16(b[6:]))}, string(b[:4]) == magic
}

// readBody reads what follows a prefix, refusing lengths that no message has.
func readBody(r io.Reader, p prefix) ([]byte, error) {
	if p.length > helloFixed+MaxToken {
		return nil, fmt.Errorf("%w: a body of %d bytes", errMalformed, p.length)
	}
	body := make([]byte, p.length)
	_, err := io.ReadFull(r, body)
	return body, err
}
