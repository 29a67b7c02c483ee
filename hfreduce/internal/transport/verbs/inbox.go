// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// header is what a message's entry in the receiver's inbox begins with. Both ends have the same byte order.
type header struct {
	seq, tag uint32
	limit    uint32 // the sender's grant
	bytes    uint32 // of the payload
	sum      uint32
}

const (
	headerBytes = int(unsafe.Sizeof(header{}))
	entryBytes  = 256
	smallBytes  = entryBytes - headerBytes // payloads up to here travel in the entry

	packetEntries = 4096 / entryBytes // as long as the largest packet
)

// immediate is what a completion tells of the message: its kind, and the number of its landing area.
type immediate uint32

// The kinds of messages.
const (
	small    immediate = iota << 29 // the payload is in the entry
	large                           // the payload is in the landing area
	grant                           // no message, only a grant, in the entry behind the last area's
	proof                           // the first message over a queue pair
	bye                             // the peer closes, and this is the last message of a queue pair
	wrong                           // the peer was told to send what this end has no room for
	kindMask immediate = 7 << 29
	areaMask immediate = 1<<29 - 1
	maxAreas           = int(areaMask)
)

func (i immediate) kind() immediate { return i & kindMask }
func (i immediate) area() int       { return int(i & areaMask) }

// memory is entries in mapped memory: an inbox, or what a queue pair sends headers and small messages from.
type memory struct{ mem []byte }

// newMemory maps n entries.
func newMemory(n int) (memory, error) {
	mem, err := unix.Mmap(-1, 0, n*entryBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return memory{}, fmt.Errorf("map %d entries: %w", n, err)
	}
	return memory{mem}, nil
}

func (m *memory) addr(i int) uint64 {
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(m.mem)))) + uint64(i*entryBytes)
}

func (m *memory) header(i int) *header { return (*header)(unsafe.Pointer(&m.mem[i*entryBytes])) }

// body returns the first n bytes behind the header.
func (m *memory) body(i, n int) []byte {
	at := i*entryBytes + headerBytes
	return m.mem[at : at+n : at+n]
}

func (m *memory) unmap() error {
	mem := m.mem
	m.mem = nil
	if mem == nil {
		return nil
	}
	return unix.Munmap(mem)
}
