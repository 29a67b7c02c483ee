// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"
)

// A control message on the wire: length of the rest 4, kind 1, body. Integers are big endian.
const frameHead = 5

// Bounds in bytes.
const (
	maxKey        = 256       // of an exchange
	maxBlob       = 1 << 20   // one rank's part of an exchange
	maxExchange   = 256 << 20 // all parts of an exchange
	maxScope      = 256       // of an abort
	maxText       = 16 << 10  // of an abort, a report, a verdict, a failure, a list
	maxUpFrame    = 6 << 20   // from a rank: a blob, its key and up to maxWorldSize members
	maxDownFrame  = 300 << 20 // from the hub
	allocateAhead = 64 << 10  // a longer frame gets its memory as its bytes arrive, not on its word
	maxQueue      = 1 << 30   // waiting for a rank that does not read
)

// kind says what a control message is.
type kind uint8

const (
	kindWaiting  kind = iota + 1 // hub: text, who is missing
	kindFailed                   // hub: code, text; the rendezvous failed. rank: its deadline has passed
	kindTable                    // hub: all PeerInfo
	kindExchange                 // rank: key, members, blob
	kindResult                   // hub: key, code, text, blobs in the members' order
	kindAbort                    // rank: 0, scope, text; hub: the rank that aborts, scope, text
	kindLost                     // hub: rank, text
	kindGoodbye                  // rank: closes; hub: understood, or closes itself
	kindNotice                   // as kindAbort, but nobody keeps it
	kindReport                   // rank: scope, who reports, members, text: a fault that all members must hear one verdict of
	kindInquiry                  // hub: case, then as kindReport: what a member has reported; what do you know?
	kindAnswer                   // rank: case, text
	kindVerdict                  // hub: the rank that reported, scope, text
	kindRollCall                 // rank: key, members, milliseconds that it waits, blob
	kindRoll                     // hub: key, code, text, epoch, who came with their blobs
	kindWithdraw                 // rank: key of a roll call that it does not wait for any more
	kindGone                     // rank: another rank whose process has ended, no scope, text
	kindOverdue                  // rank: key of an exchange that it gives up; hub: kindResult, a failure that names who is missing
)

// code sorts failures for errors.Is.
type code uint8

const (
	codeOK code = iota
	codeOther
	codeTimeout
	codeLost
	codeMismatch
	codeClosed
)

// sentinel is the error that a code stands for; nil for codeOther.
func (c code) sentinel() error {
	switch c {
	case codeTimeout:
		return ErrTimeout
	case codeLost:
		return ErrPeerLost
	case codeMismatch:
		return ErrMismatch
	case codeClosed:
		return ErrClosed
	}
	return nil
}

// failure is an error that travels.
type failure struct {
	code  code
	text  string
	cause error // here only; it does not travel
}

func failuref(c code, format string, args ...any) *failure {
	return &failure{code: c, text: fmt.Sprintf(format, args...)}
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() []error {
	var all []error
	for _, err := range []error{f.code.sentinel(), f.cause} {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// newFrame makes a message from its body.
func newFrame(k kind, body []byte) []byte {
	b := make([]byte, frameHead, frameHead+len(body))
	binary.BigEndian.PutUint32(b, uint32(1+len(body)))
	b[4] = byte(k)
	return append(b, body...)
}

// readFrame reads one message of at most max bytes.
func readFrame(r io.Reader, max int) (kind, []byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	length := int64(binary.BigEndian.Uint32(head[:])) - 1
	k := kind(head[4])
	switch {
	case length < 0 || length > int64(max):
		return 0, nil, fmt.Errorf("%w: kind %d with %d bytes", errFrame, k, length)
	case length <= allocateAhead:
		body := make([]byte, length)
		_, err := io.ReadFull(r, body)
		return k, body, noEOF(err)
	}
	var body bytes.Buffer
	_, err := io.CopyN(&body, r, length)
	return k, body.Bytes(), noEOF(err)
}

// noEOF: an end within a message is not an end.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func failedFrame(f *failure) []byte {
	var e encoder
	e.u8(uint8(f.code))
	e.text(f.text, maxText)
	return newFrame(kindFailed, e)
}

func parseFailed(body []byte) (*failure, error) {
	d := decoder{rest: body}
	f := &failure{code: code(d.u8()), text: d.text(maxText)}
	return f, d.end()
}

func waitingFrame(list string) []byte {
	var e encoder
	e.text(list, maxText)
	return newFrame(kindWaiting, e)
}

// abortFrame also carries losses: both are a rank and what it is about.
func abortFrame(k kind, rank int, scope, text string) []byte {
	var e encoder
	e.u32(rank)
	e.text(scope, maxScope)
	e.text(text, maxText)
	return newFrame(k, e)
}

func parseAbort(body []byte) (rank int, scope, text string, err error) {
	d := decoder{rest: body}
	rank, scope, text = d.u32(maxWorldSize-1), d.text(maxScope), d.text(maxText)
	return rank, scope, text, d.end()
}

func exchangeFrame(key string, members []int, mine []byte) []byte {
	e := make(encoder, 0, 12+len(key)+4*len(members)+len(mine))
	e.text(key, maxKey)
	e.ranks(members)
	e.bytes(mine)
	return newFrame(kindExchange, e)
}

func parseExchange(body []byte) (key string, members []int, mine []byte, err error) {
	d := decoder{rest: body}
	key, members, mine = d.text(maxKey), d.ranks(), d.bytes(maxBlob)
	return key, members, mine, d.end()
}

func reportFrame(c *Case) []byte {
	var e encoder
	e.text(c.Scope, maxScope)
	e.u32(c.Reporter)
	e.ranks(c.Members)
	e.text(c.Report, maxText)
	return newFrame(kindReport, e)
}

func (d *decoder) report() (c Case) {
	c.Scope, c.Reporter, c.Members, c.Report = d.text(maxScope), d.u32(maxWorldSize-1), d.ranks(), d.text(maxText)
	return c
}

func parseReport(body []byte) (Case, error) {
	d := decoder{rest: body}
	c := d.report()
	return c, d.end()
}

func inquiryFrame(id int, c *Case) []byte {
	var e encoder
	e.u32(id)
	e.text(c.Scope, maxScope)
	e.u32(c.Reporter)
	e.ranks(c.Members)
	e.text(c.Report, maxText)
	return newFrame(kindInquiry, e)
}

func parseInquiry(body []byte) (id int, c Case, err error) {
	d := decoder{rest: body}
	id = d.u32(math.MaxInt32)
	c = d.report()
	return id, c, d.end()
}

func answerFrame(id int, text string) []byte {
	var e encoder
	e.u32(id)
	e.text(text, maxText)
	return newFrame(kindAnswer, e)
}

func parseAnswer(body []byte) (id int, text string, err error) {
	d := decoder{rest: body}
	id, text = d.u32(math.MaxInt32), d.text(maxText)
	return id, text, d.end()
}

func rollCallFrame(key string, members []int, patience time.Duration, mine []byte) []byte {
	var e encoder
	e.text(key, maxKey)
	e.ranks(members)
	e.u32(int(min(max(0, patience.Milliseconds()), math.MaxInt32)))
	e.bytes(mine)
	return newFrame(kindRollCall, e)
}

func parseRollCall(body []byte) (key string, members []int, patience time.Duration, mine []byte, err error) {
	d := decoder{rest: body}
	key, members = d.text(maxKey), d.ranks()
	patience, mine = time.Duration(d.u32(math.MaxInt32))*time.Millisecond, d.bytes(maxBlob)
	return key, members, patience, mine, d.end()
}

// keyFrame is for kinds whose body is a key.
func keyFrame(k kind, key string) []byte {
	var e encoder
	e.text(key, maxKey)
	return newFrame(k, e)
}

func parseKey(body []byte) (key string, err error) {
	d := decoder{rest: body}
	key = d.text(maxKey)
	return key, d.end()
}

func rollFrame(key string, f *failure, r *roll) []byte {
	if f == nil {
		f = &failure{}
	}
	var e encoder
	e.text(key, maxKey)
	e.u8(uint8(f.code))
	e.text(f.text, maxText)
	if r == nil {
		r = &roll{}
	}
	e.u32(r.epoch)
	ranks := r.ranks()
	e.ranks(ranks)
	for _, m := range ranks {
		e.bytes(r.parts[m])
	}
	return newFrame(kindRoll, e)
}

func parseRoll(body []byte) (key string, f *failure, roll Roll, err error) {
	d := decoder{rest: body}
	key = d.text(maxKey)
	f = &failure{code: code(d.u8()), text: d.text(maxText)}
	roll = Roll{Epoch: d.u32(math.MaxInt32), Ranks: d.ranks()}
	for range roll.Ranks {
		roll.Parts = append(roll.Parts, d.bytes(maxBlob))
	}
	if f.code == codeOK {
		f = nil
	}
	return key, f, roll, d.end()
}

func resultFrame(key string, f *failure, blobs [][]byte) []byte {
	if f == nil {
		f = &failure{}
	}
	var e encoder
	e.text(key, maxKey)
	e.u8(uint8(f.code))
	e.text(f.text, maxText)
	e.u32(len(blobs))
	for _, b := range blobs {
		e.bytes(b)
	}
	return newFrame(kindResult, e)
}

func parseResult(body []byte) (key string, f *failure, blobs [][]byte, err error) {
	d := decoder{rest: body}
	key = d.text(maxKey)
	f = &failure{code: code(d.u8()), text: d.text(maxText)}
	n := d.u32(maxWorldSize)
	if n > len(d.rest)/4 {
		d.fail("%d parts in %d bytes", n, len(d.rest))
		n = 0
	}
	blobs = make([][]byte, n)
	for i := range blobs {
		blobs[i] = d.bytes(maxBlob)
	}
	if f.code == codeOK {
		f = nil
	}
	return key, f, blobs, d.end()
}
