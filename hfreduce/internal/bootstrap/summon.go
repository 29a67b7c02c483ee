// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// When the process of the hub has ended and a child of it keeps its connections open, only the ranks of its node know. They
// say so when they come over to the next hub, which learns it that way, too, and summons all others. Nobody is believed who has
// merely lost a connection: that the hub cannot be reached from one place says nothing of the others.

// sighting is that a rank, which was the hub, was seen to end. The zero value is none.
type sighting struct {
	rank int
	how  string // never empty
}

// maxSummons bounds how many ranks are summoned at once.
const maxSummons = 16

// notHub refuses those who come over to a rank that has not lost its hub, or not yet: they try again for a while. It looks at
// what they have seen.
func (s *Session) notHub() hello.Handler {
	return hello.Handler{
		Admit: func(hi hello.Hello) error {
			if c, err := parseClaim(hi.Token); err == nil && c.saw.how != "" {
				s.believe(c.saw)
			}
			return errNotHub
		},
		Serve: func(_ hello.Hello, conn net.Conn) { conn.Close() },
	}
}

// believe leaves the hub if it was seen to end.
func (s *Session) believe(saw sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hub == nil && s.wire != nil && s.hubRank == saw.rank {
		s.saw = saw
		s.wire.expire(errors.New(saw.how)) // the reader tells
	}
}

// summon tells all other ranks, at whom this one is the hub now, that the former hub was seen to end.
func (s *Session) summon() {
	ctx, cancel := context.WithTimeout(s.life, s.cfg.pace.succession)
	defer cancel()
	token := s.claim()
	ranks := make(chan int)
	var wg sync.WaitGroup
	for range maxSummons {
		wg.Go(func() {
			for rank := range ranks {
				h := hello.Hello{Purpose: hello.Control, PeerRank: rank, Token: token}
				if conn, _, err := s.reach(ctx, rank, h); err == nil { // it is to refuse
					conn.Close()
				}
			}
		})
	}
	for rank := range s.peers {
		s.mu.Lock()
		lost := s.lost[rank]
		s.mu.Unlock()
		if rank != s.rank && !lost {
			ranks <- rank
		}
	}
	close(ranks)
	wg.Wait()
}
