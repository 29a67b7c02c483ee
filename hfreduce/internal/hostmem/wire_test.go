// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"strings"
	"testing"
)

func FuzzHello(f *testing.F) {
	good := hello{index: 1, size: 2, base: 4096, eventFD: true, name: "name"}
	f.Add(good.encode())
	f.Add([]byte("HFRM\x01" + strings.Repeat("\xff", helloHead)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < helloHead {
			return
		}
		n, err := helloLength(b[:helloHead])
		if err != nil || n > len(b) {
			return
		}
		h := decodeHello(b[:n])
		if got := h.encode(); b[21] <= 1 && string(got) != string(b[:n]) {
			t.Errorf("%q decodes to %+v, which encodes to %q", b[:n], h, got)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	g := grant{base: 1, arena: 2, eventFDs: [32]byte{3}}
	f.Add(g.encode())
	f.Add(encodeRefusal("no"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := decodeAnswer(b); err == nil && string(g.encode()) != string(b) {
			t.Errorf("%q decodes to %+v, which encodes to %q", b, g, g.encode())
		}
	})
}

func TestRefusalCarriesItsText(t *testing.T) {
	for _, text := range []string{"", "there are two members 1", strings.Repeat("x", 1000)} {
		if _, err := decodeAnswer(encodeRefusal(text)); err == nil || !strings.HasSuffix(err.Error(), text[:min(255, len(text))]) {
			t.Errorf("refusal %.30q reads %v", text, err)
		}
	}
}
