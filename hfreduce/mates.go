// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"sync"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hostmem"
)

// mates are the processes of the other ranks of this rank's node. The end of one is seen here also if it has forked a child
// that keeps its connections open, as programs that load data do.
type mates struct {
	mu       sync.Mutex
	held     map[int]*hostmem.Process // by world rank
	closed   bool
	told     bool // that some are not watched
	watchers sync.WaitGroup
}

// watchMates watches the processes of a segment's members, which are ranks of the world, for as long as the fabric lives. A
// rank's process is watched once, however many segments it shares with this one.
func (f *processFabric) watchMates(s *hostmem.Segment, ranks []int) {
	m := &f.mates
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, rank := range ranks {
		p := s.TakeProcess(i)
		switch {
		case p == nil:
			if !m.told && !f.here(rank) {
				m.told = true
				f.log.Debug("the end of a process is noticed by its connections only: there is no pidfd of it", "rank", rank)
			}
		case m.closed || m.held[rank] != nil || f.here(rank):
			p.Close()
		default:
			if m.held == nil {
				m.held = map[int]*hostmem.Process{}
			}
			m.held[rank] = p
			m.watchers.Go(func() {
				if p.Wait() {
					f.session.ReportGone(rank, "its process has ended")
				}
			})
		}
	}
}

// here reports whether a rank is of this process.
func (f *processFabric) here(rank int) bool {
	mine, seat := &f.peers[f.self].Seat, &f.peers[rank].Seat
	return rank == f.self || seat.Machine == mine.Machine && seat.Process == mine.Process
}

// close ends the watching.
func (m *mates) close() {
	m.mu.Lock()
	m.closed = true
	for _, p := range m.held {
		p.Close()
	}
	m.mu.Unlock()
	m.watchers.Wait()
}
