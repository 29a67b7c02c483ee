// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
)

// sharedFabric counts the communicators of a rank, and knows them; the last one to close closes the fabric.
type sharedFabric struct {
	fabric
	mu    sync.Mutex
	refs  int
	comms map[string]*Comm // by UID; nil before the first
}

func (s *sharedFabric) retain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs++
}

func (s *sharedFabric) release(ctx context.Context) error {
	s.mu.Lock()
	s.refs--
	last := s.refs == 0
	s.mu.Unlock()
	if last {
		return s.close(ctx)
	}
	return nil
}

// add makes a communicator answer for this rank, until remove.
func (s *sharedFabric) add(c *Comm) {
	s.mu.Lock()
	first := s.comms == nil
	if first {
		s.comms = map[string]*Comm{}
	}
	s.comms[c.uid] = c
	s.mu.Unlock()
	if first {
		s.answering(s.answer)
	}
}

func (s *sharedFabric) remove(c *Comm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.comms, c.uid)
}

// others returns this rank's other communicators.
func (s *sharedFabric) others(c *Comm) (others []*Comm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.comms {
		if o != c {
			others = append(others, o)
		}
	}
	return others
}

// answer says what this rank knows of a report on one of its communicators; false if it has none of that name.
func (s *sharedFabric) answer(scope string, r report) (answer, bool) {
	s.mu.Lock()
	c := s.comms[scope]
	s.mu.Unlock()
	if c == nil {
		return answer{}, false
	}
	a := c.answer(r)
	for _, o := range s.others(c) {
		if a.Inside {
			break
		}
		if e := o.answer(report{}); e.Inside {
			a.Elsewhere = &elsewhere{Comm: o.uid, Seq: e.Seq, Call: e.Call, Needs: e.Needs}
			break
		}
	}
	return a, true
}

// askTimeout is how long the goroutine that runs a collective has to say where it stands: it looks up between chunks, and
// when its bell rings.
const askTimeout = 250 * time.Millisecond

// answer says what this rank knows of a report.
func (c *Comm) answer(r report) answer {
	a := answer{Broken: c.verdict.Load(), GPU: c.gpuAddress()}
	if a.Calls = c.journal.latest(r.Seq); len(a.Calls) > 0 {
		last := &a.Calls[len(a.Calls)-1]
		a.Seq, a.Call = last.Seq, last.Call
	}
	mates, asked := c.standings(true)
	if mates == nil {
		return a
	}
	mine := mates[c.LocalRank()]
	a.Inside, a.Phase = mine.Stage != engine.StageOutside, phaseOf(mine.Stage)
	for l, rank := range c.layout.Nodes[c.Node()] {
		if rank != c.rank {
			a.Mates = append(a.Mates, sighting{Rank: c.members[rank], Seq: mates[l].Call, Phase: phaseOf(mates[l].Stage)})
		}
	}
	if !a.Inside {
		return a
	}
	p := c.await(asked)
	if p == nil {
		if later, _ := c.standings(false); later != nil {
			mine = later[c.LocalRank()]
			a.Inside = mine.Call == a.Seq && mine.Stage != engine.StageOutside // else the collective has ended meanwhile
			a.Held = a.Inside
		}
	} else {
		a.Device = p.Device
		for _, n := range p.Needs {
			a.Needs = append(a.Needs, need{c.members[n.Rank], n.For})
		}
	}
	return a
}

// standings returns where the ranks of the node stand, nil if the Comm is closed, and asks where this rank does if ask says so.
func (c *Comm) standings(ask bool) (mates []engine.Standing, asked <-chan engine.Position) {
	c.breaking.Lock()
	defer c.breaking.Unlock()
	if c.released {
		return nil, nil
	}
	if mates = c.engine.Standings(); ask && mates[c.LocalRank()].Stage != engine.StageOutside {
		asked = c.engine.Ask()
	}
	return mates, asked
}

// await waits for an engine's answer; nil if none comes.
func (c *Comm) await(asked <-chan engine.Position) *engine.Position {
	if p := c.stuck.Load(); p != nil || c.cause.Load() != nil {
		return p
	}
	timer := time.NewTimer(askTimeout)
	defer timer.Stop()
	select {
	case p := <-asked:
		return &p
	case <-c.life.Done():
	case <-timer.C:
	}
	return c.stuck.Load() // it has failed meanwhile, perhaps
}
