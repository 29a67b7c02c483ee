// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"unsafe"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// selective is a transport whose links send from registered memory only, as RDMA does.
type selective struct {
	transport.Transport
	registered map[*byte]int // by start, the length
}

func (s *selective) Register(mem []byte) (func() error, error) {
	s.registered[&mem[0]] = len(mem)
	return func() error {
		delete(s.registered, &mem[0])
		return nil
	}, nil
}

func (s *selective) knows(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	at := uintptr(unsafe.Pointer(&b[0]))
	for start, n := range s.registered {
		if lo := uintptr(unsafe.Pointer(start)); at >= lo && at+uintptr(len(b)) <= lo+uintptr(n) {
			return true
		}
	}
	return false
}

func (s *selective) Connect(ctx context.Context, peer int, key string, cfg transport.LinkConfig) (transport.Link, error) {
	for _, area := range cfg.Landings {
		if !s.knows(area) {
			return nil, errors.New("a landing area is not registered")
		}
	}
	l, err := s.Transport.Connect(ctx, peer, key, cfg)
	if err != nil {
		return nil, err
	}
	return &selectiveLink{l, s}, nil
}

type selectiveLink struct {
	transport.Link
	of *selective
}

func (l *selectiveLink) Sends(b []byte) bool { return l.of.knows(b) }

func (l *selectiveLink) Post(m transport.Message) error {
	if !l.of.knows(m.Payload) {
		return errors.New("the payload is not registered")
	}
	return l.Link.Post(m)
}

// TestSelectiveTransport: over links that send from registered memory only, the segment is registered and all collectives
// send from it, whatever the buffers are, with the same bits as otherwise; nothing stays registered.
func TestSelectiveTransport(t *testing.T) {
	for name, nodeOf := range layouts {
		t.Run(name, func(t *testing.T) {
			transports := make([]*selective, len(nodeOf))
			comms := newWorldOver(t, nodeOf, func(rank int, inner transport.Transport) transport.Transport {
				transports[rank] = &selective{inner, map[*byte]int{}}
				return transports[rank]
			})
			for _, count := range []int{5, 3000, 400_000} {
				inputs := make([][]byte, len(comms))
				for r := range inputs {
					inputs[r] = random(TypeFloat32, count, r, 3)
				}
				want := newOracle(t, nodeOf, TypeFloat32, Sum, nil).reduce(schedule.AllReduce, inputs, 4, -1)
				each(t, comms, func(c *Comm) error { return checkAllReduce(t, c, inputs[c.Rank()], want) })
				each(t, comms, func(c *Comm) error {
					all := make([]byte, len(inputs[0])*len(inputs))
					if err := c.AllGather(t.Context(), Bytes(all, TypeFloat32), Bytes(inputs[c.Rank()], TypeFloat32)); err != nil {
						return err
					}
					if !bytes.Equal(all, bytes.Join(inputs, nil)) {
						t.Errorf("rank %d: AllGather of %d elements is wrong", c.Rank(), count)
					}
					b := bytes.Clone(inputs[c.Rank()])
					if err := c.Broadcast(t.Context(), Bytes(b, TypeFloat32), Bytes(b, TypeFloat32), 1%c.WorldSize()); err != nil {
						return err
					}
					if !bytes.Equal(b, inputs[1%c.WorldSize()]) {
						t.Errorf("rank %d: Broadcast of %d elements is wrong", c.Rank(), count)
					}
					return nil
				})
			}
			closeAll(t, comms)
			for r, s := range transports {
				if len(s.registered) > 0 {
					t.Errorf("rank %d: %d pieces of memory stay registered", r, len(s.registered))
				}
			}
		})
	}
}

// checkAllReduce sums out of place, in place, and in place in memory of Alloc.
func checkAllReduce(t *testing.T, c *Comm, input, want []byte) error {
	m, err := c.Alloc(int64(len(input)))
	if err != nil {
		return err
	}
	copy(m.Bytes(), input)
	same := bytes.Clone(input)
	for _, b := range []struct {
		kind    string
		dst, in []byte
	}{{"out of place", make([]byte, len(input)), input}, {"in place", same, same}, {"Alloc", m.Bytes(), m.Bytes()}} {
		if err := c.AllReduce(t.Context(), Bytes(b.dst, TypeFloat32), Bytes(b.in, TypeFloat32), Sum); err != nil {
			return err
		}
		if !bytes.Equal(b.dst, want) {
			t.Errorf("rank %d, %s: AllReduce of %d bytes is wrong", c.Rank(), b.kind, len(input))
		}
	}
	return m.Free()
}
