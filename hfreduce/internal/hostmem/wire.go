// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// The protocol on the abstract socket. A member sends one hello, with its eventfd as SCM_RIGHTS if it has one; when all
// have come, member 0 answers each with a grant, with the memfd and all eventfds as SCM_RIGHTS, or with a refusal.
//
//	hello:   "HFRM" version index(4) size(4) base(8) hasEventFD(1) nameLength(1) name
//	grant:   "HFRG" version base(8) arena(8) bitmap of the members that have an eventfd (32)
//	refusal: "HFRX" version textLength(1) text

const (
	wireVersion = 1
	maxName     = 90 // an abstract address has at most 107 bytes
	helloHead   = 4 + 1 + 4 + 4 + 8 + 1 + 1
	maxHello    = helloHead + maxName
	grantBytes  = 4 + 1 + 8 + 8 + 32
	maxAnswer   = 4 + 1 + 1 + 255
)

var (
	magicHello  = []byte("HFRM")
	magicGrant  = []byte("HFRG")
	magicRefuse = []byte("HFRX")
)

// hello is what a member says of itself.
type hello struct {
	index, size int
	base        int64
	eventFD     bool
	name        string
}

func (h *hello) encode() []byte {
	b := append([]byte(nil), magicHello...)
	b = append(b, wireVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.index))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.base))
	b = append(b, boolByte(h.eventFD), byte(len(h.name)))
	return append(b, h.name...)
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// helloLength returns how long the hello is that starts with head, which has helloHead bytes.
func helloLength(head []byte) (int, error) {
	if !bytes.Equal(head[:4], magicHello) {
		return 0, errors.New("not a hello")
	}
	if head[4] != wireVersion {
		return 0, fmt.Errorf("protocol version %d, this is version %d", head[4], wireVersion)
	}
	return helloHead + int(head[helloHead-1]), nil
}

// decodeHello reads a hello whose length is right.
func decodeHello(b []byte) hello {
	return hello{
		index: int(binary.LittleEndian.Uint32(b[5:])), size: int(binary.LittleEndian.Uint32(b[9:])),
		base: int64(binary.LittleEndian.Uint64(b[13:])), eventFD: b[21] == 1, name: string(b[helloHead:]),
	}
}

// check compares a hello with what member 0 expects.
func (h *hello) check(c *Config) error {
	switch {
	case h.name != c.Name:
		return errors.New("another segment's name")
	case h.size != c.Size || h.index < 1 || h.index >= c.Size:
		return fmt.Errorf("member %d of %d, expected are members 1 to %d of %d", h.index, h.size, c.Size-1, c.Size)
	case h.base != c.Bytes:
		return fmt.Errorf("member %d wants a segment of %d bytes, member 0 of %d: options differ", h.index, h.base, c.Bytes)
	}
	return nil
}

// grant is what member 0 answers.
type grant struct {
	base, arena int64
	eventFDs    [32]byte // bitmap by member
}

func (g *grant) has(i int) bool { return g.eventFDs[i/8]&(1<<(i%8)) != 0 }

func (g *grant) encode() []byte {
	b := append([]byte(nil), magicGrant...)
	b = append(b, wireVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(g.base))
	b = binary.LittleEndian.AppendUint64(b, uint64(g.arena))
	return append(b, g.eventFDs[:]...)
}

func encodeRefusal(text string) []byte {
	text = text[:min(len(text), 255)]
	return append(append(append([]byte(nil), magicRefuse...), wireVersion, byte(len(text))), text...)
}

// decodeAnswer reads a whole answer: a grant, or the error that a refusal or garbage is.
func decodeAnswer(b []byte) (grant, error) {
	var g grant
	switch {
	case len(b) == grantBytes && bytes.Equal(b[:4], magicGrant) && b[4] == wireVersion:
		g.base, g.arena = int64(binary.LittleEndian.Uint64(b[5:])), int64(binary.LittleEndian.Uint64(b[13:]))
		copy(g.eventFDs[:], b[21:])
		return g, nil
	case len(b) >= 6 && bytes.Equal(b[:4], magicRefuse) && len(b) == 6+int(b[5]):
		return g, fmt.Errorf("member 0 refused: %s", b[6:])
	case len(b) == 0:
		return g, errors.New("member 0 closed the connection")
	}
	return g, fmt.Errorf("unknown answer of %d bytes", len(b))
}
