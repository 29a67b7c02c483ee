// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

func TestHeaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := header{kind: kind(rapid.IntRange(int(kindMessage), int(kindOpen)).Draw(t, "kind")), grant: rapid.Uint32().Draw(t, "grant")}
		if h.kind == kindMessage {
			h.landing, h.seq = rapid.Uint32().Draw(t, "landing"), rapid.Uint32().Draw(t, "seq")
			h.tag, h.bytes, h.sum = rapid.Uint32().Draw(t, "tag"), rapid.Uint32().Draw(t, "bytes"), rapid.Uint32().Draw(t, "sum")
		}
		var b [headerBytes]byte
		h.encode(&b)
		if got, err := decode(b[:]); err != nil || got != h {
			t.Fatalf("%+v became %+v, %v", h, got, err)
		}
	})
}

// TestHeaderLayout pins the bytes on the wire.
func TestHeaderLayout(t *testing.T) {
	h := header{kind: kindMessage, landing: 0x04030201, seq: 0x08070605, tag: 0x0c0b0a09, grant: 0x100f0e0d, bytes: 0x14131211, sum: 0x18171615}
	var b [headerBytes]byte
	h.encode(&b)
	want := append([]byte("HFD\x01"), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)
	want = append(want, make([]byte, 36)...)
	if !bytes.Equal(b[:], want) {
		t.Errorf("got %x, want %x", b, want)
	}
}

func FuzzDecode(f *testing.F) {
	var b [headerBytes]byte
	(&header{kind: kindMessage, landing: 1, seq: 2, tag: 3, grant: 4, bytes: 5, sum: 6}).encode(&b)
	f.Add(bytes.Clone(b[:]))
	(&header{kind: kindGrant, grant: 4}).encode(&b)
	f.Add(bytes.Clone(b[:]))
	f.Add([]byte("GET /metrics HTTP/1.1\r\nHost"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < headerBytes {
			return
		}
		h, err := decode(in)
		if err != nil {
			if !errors.Is(err, transport.ErrProtocol) {
				t.Errorf("error %v is no protocol error", err)
			}
			return
		}
		var out [headerBytes]byte
		h.encode(&out)
		if !bytes.Equal(out[:], in[:headerBytes]) {
			t.Errorf("%x decodes to %+v, which encodes to %x", in[:headerBytes], h, out)
		}
	})
}
