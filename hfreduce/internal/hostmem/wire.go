// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The protocol on the abstract socket. A member sends one hello, with its eventfd as SCM_RIGHTS if it has one. Member 0
// answers with any number of frames that tell who has come, and then with a grant, which carries the memfd and all
// eventfds as SCM_RIGHTS, or with a refusal. All are frames, numbers little-endian:
//
//	frame:   "HFR" kind(1) version(1) bodyLength(2) body
//	hello:   index(4) size(4) base(8) hasEventFD(1) name
//	present: bitmap of the members that have come (32)
//	grant:   base(8) arena(8) bitmap of the members that have an eventfd (32)
//	processes: bitmap of the members whose pidfds come with it as SCM_RIGHTS (32); at most one, before the grant
//	refusal: text
const (
	wireMagic   = "HFR"
	wireVersion = 3
	headBytes   = len(wireMagic) + 1 + 1 + 2

	maxName      = 90 // an abstract address has at most 107 bytes
	helloFixed   = 4 + 4 + 8 + 1
	maxHello     = helloFixed + maxName
	presentBytes = 32
	grantBytes   = 8 + 8 + 32
	maxRefusal   = 1024
)

// Kinds of frames.
const (
	kindHello     = 'M'
	kindPresent   = 'W'
	kindProcesses = 'P'
	kindGrant     = 'G'
	kindRefusal   = 'X'
)

// bitmap is a set of members.
type bitmap [(MaxMembers + 7) / 8]byte

func (m *bitmap) has(i int) bool { return m[i/8]&(1<<(i%8)) != 0 }
func (m *bitmap) add(i int)      { m[i/8] |= 1 << (i % 8) }

// count returns how many of size members are in the set.
func (m *bitmap) count(size int) (n int) {
	for i := range size {
		if m.has(i) {
			n++
		}
	}
	return n
}

// absent lists the members of size that are not in the set, as text.
func (m *bitmap) absent(size int) string {
	var list []string
	for i := range size {
		if !m.has(i) {
			list = append(list, strconv.Itoa(i))
		}
	}
	return strings.Join(list, ", ")
}

func frame(kind byte, body []byte) []byte {
	b := append([]byte(wireMagic), kind, wireVersion)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// parseHead returns what frame follows a head of headBytes bytes.
func parseHead(head []byte) (kind byte, bodyLength int, err error) {
	if string(head[:len(wireMagic)]) != wireMagic {
		return 0, 0, errors.New("not a frame of this protocol")
	}
	if head[4] != wireVersion {
		return 0, 0, fmt.Errorf("protocol version %d, this is version %d: the members run different builds", head[4], wireVersion)
	}
	return head[3], int(binary.LittleEndian.Uint16(head[5:])), nil
}

// hello is what a member says of itself.
type hello struct {
	index, size int
	base        int64
	eventFD     bool
	name        string
}

func (h *hello) encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(h.index))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.base))
	b = append(b, boolByte(h.eventFD))
	return frame(kindHello, append(b, h.name...))
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func parseHello(kind byte, body []byte) (hello, error) {
	if kind != kindHello || len(body) < helloFixed || len(body) > maxHello {
		return hello{}, fmt.Errorf("frame %q of %d bytes instead of a hello", kind, len(body))
	}
	return hello{
		index: int(binary.LittleEndian.Uint32(body)), size: int(binary.LittleEndian.Uint32(body[4:])),
		base: int64(binary.LittleEndian.Uint64(body[8:])), eventFD: body[16] == 1, name: string(body[helloFixed:]),
	}, nil
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

// grant is what member 0 answers when all have come.
type grant struct {
	base, arena int64
	eventFDs    bitmap
}

func (g *grant) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(g.base))
	b = binary.LittleEndian.AppendUint64(b, uint64(g.arena))
	return frame(kindGrant, append(b, g.eventFDs[:]...))
}

func encodePresent(m *bitmap) []byte { return frame(kindPresent, m[:]) }

func encodeProcesses(m *bitmap) []byte { return frame(kindProcesses, m[:]) }

func encodeRefusal(text string) []byte {
	return frame(kindRefusal, []byte(text[:min(len(text), maxRefusal)]))
}

// errRefused is the answer of a member 0 that refuses.
type errRefused string

func (e errRefused) Error() string { return "member 0 refused: " + string(e) }

// parseAnswer reads one frame of member 0: a grant, or who has come (done is false then), or the error that a refusal or
// garbage is.
func parseAnswer(kind byte, body []byte) (g grant, present bitmap, done bool, err error) {
	switch {
	case kind == kindGrant && len(body) == grantBytes:
		g.base, g.arena = int64(binary.LittleEndian.Uint64(body)), int64(binary.LittleEndian.Uint64(body[8:]))
		copy(g.eventFDs[:], body[16:])
		return g, present, true, nil
	case kind == kindPresent && len(body) == presentBytes:
		copy(present[:], body)
		return g, present, false, nil
	case kind == kindRefusal && len(body) <= maxRefusal:
		return g, present, true, errRefused(body)
	}
	return g, present, true, fmt.Errorf("frame %q of %d bytes instead of an answer", kind, len(body))
}
