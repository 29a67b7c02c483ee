// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"fmt"
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
)

// Different calls on different ranks are found by the fingerprint that every message and every staged input carries. Some
// pairs of calls never exchange one, because each rank waits for somebody else: then the first rank that has waited for
// noticeAfter tells all ranks what it is in, and a rank that is, was or will be in something else as the same collective
// of the Comm breaks it. In a job that only waits for a slow rank this costs one message to each rank, since ranks that
// have heard a notice for their collective do not repeat it.

const (
	noticeAfter  = 300 * time.Millisecond
	noticeSpread = 2 * time.Millisecond // times the rank, so that low ranks speak first and the others need not
	remembered   = 64                   // collectives whose fingerprints are kept
)

// journal remembers the collectives of a Comm and what other ranks said of theirs.
type journal struct {
	mu      sync.Mutex
	seq     uint64                // the latest collective begun here
	calls   [remembered]signature // of the collectives up to seq, by number
	tags    [remembered]uint32
	notice  verdict // the latest one that is ahead of seq
	settled uint64  // the latest collective of which another rank has given notice
}

// begin notes that a collective begins here.
func (j *journal) begin(c *Comm, seq uint64, k *signature, tag uint32) {
	j.mu.Lock()
	j.seq, j.calls[seq%remembered], j.tags[seq%remembered] = seq, *k, tag
	early := j.notice.Seq == seq // another rank has waited for this one
	j.mu.Unlock()
	if early {
		j.heard(c, j.latestNotice())
	}
}

// latestNotice returns the latest notice of a collective that had not begun here.
func (j *journal) latestNotice() verdict {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.notice
}

// heard compares another rank's notice with what this rank did or does.
func (j *journal) heard(c *Comm, v verdict) {
	j.mu.Lock()
	if v.Seq > j.seq {
		j.notice = v
		j.mu.Unlock()
		c.warnOfCrossing(v)
		return
	}
	j.settled = max(j.settled, v.Seq)
	differs := v.Seq+remembered > j.seq && j.tags[v.Seq%remembered] != v.Tag
	mine := j.calls[v.Seq%remembered]
	j.mu.Unlock()
	if differs {
		c.report(report{Kind: verdictMismatch, Seq: v.Seq, Call: mine.String(), Accused: v.Rank, Text: fmt.Sprintf("rank %d waits in %s", c.rankOf(v.Rank), v.Text)}, nil)
	}
}

// warnOfCrossing tells, once, when this rank waits in another communicator while a rank waits for it in this one: if they
// are called in different orders, both wait for each other. It may as well be that another goroutine is on its way here, so
// that is a fault only after Timeout.
func (c *Comm) warnOfCrossing(v verdict) {
	for _, o := range c.fabric.others(c) {
		if mates, _ := o.standings(false); mates == nil || mates[o.LocalRank()].Stage == engine.StageOutside {
			continue
		}
		c.crossing.Do(func() {
			calls := o.journal.latest(0)
			c.log.Warn("a rank waits in a communicator while this one is in another: are they called in the same order on all ranks?",
				"rank", c.rank, "communicator", o.uid, "call", calls[len(calls)-1].Call, "other_rank", c.rankOf(v.Rank), "other_communicator", c.uid, "other_call", v.Text)
		})
	}
}

// told is how many of the latest collectives a rank tells when it is asked.
const told = 8

// made is a collective that was begun here.
type made struct {
	Seq  uint64
	Tag  uint32
	Call string
}

// latest returns the latest collectives begun here, the last one last, and the one of that number if it is remembered.
func (j *journal) latest(which uint64) (calls []made) {
	j.mu.Lock()
	defer j.mu.Unlock()
	add := func(seq uint64) {
		calls = append(calls, made{seq, j.tags[seq%remembered], j.calls[seq%remembered].String()})
	}
	first := max(1, j.seq+1-min(told, j.seq))
	if which > 0 && which < first && which+remembered > j.seq {
		add(which)
	}
	for seq := first; seq <= j.seq; seq++ {
		add(seq)
	}
	return calls
}

// tell gives notice of the collective that runs here, unless somebody did.
func (j *journal) tell(c *Comm) {
	j.mu.Lock()
	v := verdict{Kind: noticeWaiting, Rank: c.members[c.rank], Seq: j.seq, Tag: j.tags[j.seq%remembered], Text: j.calls[j.seq%remembered].String()}
	known := j.settled >= j.seq
	j.mu.Unlock()
	if !known {
		c.fabric.tell(c.uid, v)
	}
}

// noticeDelay is how long a rank waits before it gives notice.
func noticeDelay(rank int) time.Duration { return noticeAfter + time.Duration(rank)*noticeSpread }
