// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestHelloRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := hello{
			index: rapid.IntRange(0, 1<<31).Draw(t, "index"), size: rapid.IntRange(0, 1<<31).Draw(t, "size"),
			base: rapid.Int64().Draw(t, "base"), eventFD: rapid.Bool().Draw(t, "eventfd"), name: rapid.StringN(0, maxName, maxName).Draw(t, "name"),
		}
		b := h.encode()
		kind, length, err := parseHead(b[:headBytes])
		if err != nil || length != len(b)-headBytes {
			t.Fatalf("head: %q %d %v", kind, length, err)
		}
		if got, err := parseHello(kind, b[headBytes:]); err != nil || got != h {
			t.Fatalf("%+v became %+v, %v", h, got, err)
		}
	})
}

func TestAnswerRoundTrip(t *testing.T) {
	members := rapid.Custom(func(t *rapid.T) (m bitmap) {
		for _, i := range rapid.SliceOf(rapid.IntRange(0, MaxMembers-1)).Draw(t, "members") {
			m.add(i)
		}
		return m
	})
	rapid.Check(t, func(t *rapid.T) {
		g := grant{rapid.Int64().Draw(t, "base"), rapid.Int64().Draw(t, "arena"), members.Draw(t, "eventfds")}
		if got, _, done, err := parseFrame(t, g.encode()); got != g || !done || err != nil {
			t.Fatalf("%+v became %+v, %v, %v", g, got, done, err)
		}
		m := members.Draw(t, "present")
		if _, got, done, err := parseFrame(t, encodePresent(&m)); got != m || done || err != nil {
			t.Fatalf("%v became %v, %v, %v", m, got, done, err)
		}
		text := rapid.StringN(0, -1, 2*maxRefusal).Draw(t, "text")
		_, _, done, err := parseFrame(t, encodeRefusal(text))
		var refused errRefused
		if !done || !errors.As(err, &refused) || string(refused) != text[:min(len(text), maxRefusal)] {
			t.Fatalf("%q became %v, %v", text, done, err)
		}
	})
}

func parseFrame(t *rapid.T, b []byte) (grant, bitmap, bool, error) {
	kind, length, err := parseHead(b[:headBytes])
	if err != nil || length != len(b)-headBytes || length > maxRefusal {
		t.Fatalf("head: %q %d %v", kind, length, err)
	}
	return parseAnswer(kind, b[headBytes:])
}

func TestBitmapAbsent(t *testing.T) {
	var m bitmap
	for i := range 20 {
		if i != 3 && i != 17 {
			m.add(i)
		}
	}
	if got := m.absent(19); got != "3, 17" {
		t.Errorf("absent: %q", got)
	}
	if got := m.absent(21); !strings.HasSuffix(got, ", 20") {
		t.Errorf("absent: %q", got)
	}
}

// Whatever bytes come, the parsers do not panic, and what they accept is what was sent.
func FuzzFrame(f *testing.F) {
	f.Add((&hello{index: 1, size: 2, base: 4096, eventFD: true, name: "name"}).encode())
	f.Add((&grant{base: 4096, arena: 1 << 38}).encode())
	f.Add(encodePresent(&bitmap{7}))
	f.Add(encodeRefusal("no"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headBytes {
			return
		}
		kind, length, err := parseHead(b[:headBytes])
		if err != nil || len(b)-headBytes != length {
			return
		}
		body := b[headBytes:]
		if h, err := parseHello(kind, body); err == nil {
			if got := h.encode(); string(got) != string(b) && body[16] < 2 {
				t.Errorf("hello %x is read as %+v", b, h)
			}
			_ = h.check(&Config{Name: "name", Size: 2, Bytes: 4096})
		}
		g, present, done, err := parseAnswer(kind, body)
		switch {
		case err != nil:
		case done && string(g.encode()) != string(b), !done && string(encodePresent(&present)) != string(b):
			t.Errorf("answer %x is read as %+v, %v", b, g, present)
		}
	})
}
