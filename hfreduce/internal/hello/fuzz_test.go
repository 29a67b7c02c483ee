// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"bytes"
	"math"
	"net"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMessagesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := request{
			flags: rapid.Byte().Draw(t, "flags"),
			hello: Hello{
				Purpose:  rapid.SampledFrom([]Purpose{Control, Data}).Draw(t, "purpose"),
				Rank:     rapid.IntRange(0, math.MaxInt32).Draw(t, "rank"),
				PeerRank: rapid.IntRange(AnyRank, math.MaxInt32).Draw(t, "peer"),
				Token:    rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "token"),
			},
			nonce: newNonce(), jobTag: newNonce(),
		}
		got, err := parseRequest(r.encode()[prefixLength:])
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("%+v came back as %+v, %v", r, got, err)
		}
		a := reply{flags: r.flags, status: status(rapid.Byte().Draw(t, "status")), rank: r.hello.PeerRank, check: newNonce(),
			text: rapid.StringN(0, -1, maxText).Draw(t, "text")}
		back, err := parseReply(a.encode()[prefixLength:])
		if err != nil || back != a {
			t.Fatalf("%+v came back as %+v, %v", a, back, err)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add((&request{hello: Hello{Purpose: Data, PeerRank: AnyRank, Token: []byte("t")}}).encode()[prefixLength:])
	f.Add([]byte{})
	f.Add(make([]byte, helloFixed+MaxToken+1))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseRequest(body)
		if err == nil && !bytes.Equal(r.encode()[prefixLength:], body) {
			t.Errorf("%x came back as %x", body, r.encode())
		}
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add((&reply{status: statusRefused, rank: 3, text: "no"}).encode()[prefixLength:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseReply(body)
		if err == nil && !bytes.Equal(r.encode()[prefixLength:], body) {
			t.Errorf("%x came back as %x", body, r.encode())
		}
		if err == nil && r.status != statusOK && r.status.err() == nil {
			t.Errorf("status %d is no error", r.status)
		}
	})
}

// FuzzListener gives a listener whatever a stranger might send: it must never be served, and always come to an end.
func FuzzListener(f *testing.F) {
	id := Identity{JobID: "job", Secret: secret, Rank: 0}
	r := request{flags: id.flags(), hello: Hello{Purpose: Data, PeerRank: 0}}
	r.jobTag = id.jobTag(r.nonce)
	f.Add(r.encode())
	f.Add(append(r.encode(), make([]byte, sumLength)...))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("HFRD\x00\x02\x00\x00"))
	f.Fuzz(func(t *testing.T, says []byte) {
		l, err := NewListener(ListenOptions{Addr: "127.0.0.1:0", Identity: id})
		if err != nil {
			t.Fatal(err)
		}
		l.Handle(Data, Handler{Serve: func(_ Hello, conn net.Conn) { conn.Close(); t.Errorf("served %x", says) }})
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		conn.Write(says)
		conn.(*net.TCPConn).CloseWrite()
		readAll(t, conn)
		conn.Close()
		l.Close()
	})
}
