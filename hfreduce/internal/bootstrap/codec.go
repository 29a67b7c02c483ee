// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// maxName bounds host names, node names and host ids on the wire.
const maxName = 255

var errFrame = errors.New("malformed control message")

// encoder appends big endian values.
type encoder []byte

func (e *encoder) u8(v uint8)   { *e = append(*e, v) }
func (e *encoder) u16(v uint16) { *e = binary.BigEndian.AppendUint16(*e, v) }
func (e *encoder) u32(v int)    { *e = binary.BigEndian.AppendUint32(*e, uint32(v)) }

func (e *encoder) bytes(b []byte) {
	e.u32(len(b))
	*e = append(*e, b...)
}

// text appends s, cut to max bytes.
func (e *encoder) text(s string, max int) { e.bytes([]byte(s[:min(len(s), max)])) }

func (e *encoder) ranks(ranks []int) {
	e.u32(len(ranks))
	for _, r := range ranks {
		e.u32(r)
	}
}

func (e *encoder) addrs(addrs []netip.AddrPort) {
	e.u8(uint8(len(addrs)))
	for _, a := range addrs {
		ip := a.Addr().AsSlice()
		e.u8(uint8(len(ip)))
		*e = append(*e, ip...)
		e.u16(a.Port())
	}
}

// decoder takes values off the front. The first fault sticks; after it all values are zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{errFrame}, args...)...)
	}
	d.rest = nil
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n > len(d.rest) {
		d.fail("%d bytes missing", n-len(d.rest))
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// u32 reads a number of at most max.
func (d *decoder) u32(max int) int {
	b := d.take(4)
	if b == nil {
		return 0
	}
	v := int64(binary.BigEndian.Uint32(b))
	if v > int64(max) {
		d.fail("%d is above %d", v, max)
		return 0
	}
	return int(v)
}

func (d *decoder) bytes(max int) []byte { return d.take(d.u32(max)) }

func (d *decoder) text(max int) string { return string(d.bytes(max)) }

// ranks reads a list that is no longer than its bytes can hold.
func (d *decoder) ranks() []int {
	n := d.u32(maxWorldSize)
	if n > len(d.rest)/4 {
		d.fail("%d ranks in %d bytes", n, len(d.rest))
		return nil
	}
	ranks := make([]int, n)
	for i := range ranks {
		ranks[i] = d.u32(maxWorldSize - 1)
	}
	return ranks
}

func (d *decoder) addrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for range d.u8() {
		ip := d.take(int(d.u8()))
		port := d.u16()
		addr, ok := netip.AddrFromSlice(ip)
		if d.err != nil || !ok {
			d.fail("an address of %d bytes", len(ip))
			return nil
		}
		addrs = append(addrs, netip.AddrPortFrom(addr, port))
	}
	return addrs
}

// end returns the first fault, or one if anything is left over.
func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail("%d bytes too many", len(d.rest))
	}
	return d.err
}
