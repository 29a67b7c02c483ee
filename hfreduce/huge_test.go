// SPDX-License-Identifier: Apache-2.0

//go:build !race

package hfreduce

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// TestBuffersBeyond4GiB sums two buffers whose offsets do not fit 32 bits, over two nodes and within one. It uses shared
// memory, which the race detector does not follow, so there is nothing in it for that.
func TestBuffersBeyond4GiB(t *testing.T) {
	const (
		size = 1<<32 + 3<<20 + 123
		need = 2*size + 2<<30
	)
	if free := availableMemory(t); free < need {
		testreq.Missing(t, "memory", fmt.Sprintf("%d bytes of memory are needed, %d are available", int64(need), free))
	}
	for nodes := 1; nodes <= 2; nodes++ {
		comms := newWorld(t, blocks(2, nodes), Options{ChunkBytes: 1 << 20, Timeout: 5 * time.Minute})
		each(t, comms, func(c *Comm) error {
			m, err := c.Alloc(size)
			if err != nil {
				return err
			}
			defer m.Free()
			buf := m.Bytes()
			for at := 0; at < size; at += patternBytes {
				copy(buf[at:], pattern(c.Rank()+1, at/patternBytes))
			}
			if err := c.AllReduce(context.Background(), Bytes(buf, TypeUint8), Bytes(buf, TypeUint8), Sum); err != nil {
				return err
			}
			for at := 0; at < size; at += patternBytes {
				end := min(at+patternBytes, size)
				if want := pattern(3, at/patternBytes); !bytes.Equal(buf[at:end], want[:end-at]) {
					return fmt.Errorf("%d nodes: wrong within [%d:%d]", nodes, at, end)
				}
			}
			return nil
		})
	}
}

const patternBytes = 1<<20 + 64 // not a divisor of a chunk: what lands a chunk away is found

// pattern is factor times the block's content; blocks differ from their neighbours.
func pattern(factor, block int) []byte {
	b := bytes.Repeat([]byte{byte(factor * (block % 251))}, patternBytes)
	b[0], b[patternBytes-1] = byte(factor*(block%83)), byte(factor*(block%79))
	return b
}

// availableMemory returns what the system says can be used without swapping.
func availableMemory(t *testing.T) int64 {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`MemAvailable: +(\d+) kB`).FindSubmatch(info)
	if m == nil {
		t.Fatal("no MemAvailable in /proc/meminfo")
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
