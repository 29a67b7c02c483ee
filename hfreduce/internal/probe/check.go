// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"fmt"
)

// checkRounds is how often every slot is used while data is verified.
const checkRounds = 2

// check sends messages whose bytes the other end knows, in all directions that were measured, and verifies those that come.
func (e *end) check(size int, f *Figure) error {
	e.taken = func(number uint64, message []byte) {
		f.Checked++
		at := mismatch(message, e.seed(number, !e.cfg.First))
		if at < 0 {
			return
		}
		if f.Wrong++; f.Wrong == 1 {
			f.Fault = fmt.Sprintf("byte %d of message %d, of %d bytes, from rank %d is wrong", at, number, size, e.link.Peer())
		}
	}
	defer func() { e.taken = nil }()
	out, in := e.share(e.cfg.Window)
	for range checkRounds {
		for i := range out { // nothing is on its way
			number := e.posted + uint64(i)
			fill(e.out[number%e.window][:size], e.seed(number, e.cfg.First))
		}
		if err := e.stream(out, in, size, true); err != nil {
			return err
		}
	}
	return nil
}

// seed is that of a message's bytes: none are alike, of neither end.
func (e *end) seed(number uint64, first bool) uint64 {
	if first {
		number |= 1 << 63
	}
	return number
}

// words yields reproducible numbers (splitmix64).
type words uint64

func (w *words) next() uint64 {
	*w += 0x9e3779b97f4a7c15
	z := uint64(*w)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// fill writes the bytes of a seed.
func fill(b []byte, seed uint64) {
	w := words(seed * 0xd1342543de82ef95)
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, w.next())
	}
	for i, last := 0, w.next(); i < len(b); i++ {
		b[i] = byte(last >> (8 * i))
	}
}

// mismatch returns the index of the first byte that is not that of the seed, -1 if all are.
func mismatch(b []byte, seed uint64) int {
	w := words(seed * 0xd1342543de82ef95)
	at := 0
	for ; len(b)-at >= 8; at += 8 {
		if want := w.next(); binary.LittleEndian.Uint64(b[at:]) != want {
			return at + differs(b[at:at+8], want)
		}
	}
	if i := differs(b[at:], w.next()); i < len(b)-at {
		return at + i
	}
	return -1
}

// differs returns the index of the first byte that is not that of a word, len(b) if all are.
func differs(b []byte, word uint64) int {
	for i := range b {
		if b[i] != byte(word>>(8*i)) {
			return i
		}
	}
	return len(b)
}
