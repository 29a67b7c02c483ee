// SPDX-License-Identifier: Apache-2.0

package engine

import "github.com/hfreduce/hfreduce/hfreduce/internal/schedule"

// This file is pure: it says what a device is given for a collective, and in which order, when the collective is called.
//
// The order matters, although fills and drains are on streams of their own: a driver may put both on one hardware queue, and
// another thread's cudaFree may hold the driver between two of our calls until the device is idle. So whatever has been given
// must be able to come to an end by itself: what drains a slot is given before what fills it again, and a flag not later than
// the wait of somebody who needs it. Otherwise a flag is given with the next wait of its direction: both take one call then.
//
// Items are given in groups, with one wait, one flag, and one copy where their bytes lie evenly: each operation costs the call
// more than a microsecond, while ranks add, and slots are used again, item by item. Where a collective begins and ends, and
// nothing else is under way, items go by themselves. A group waits for its last item. It cannot wait for itself in a circle:
// what an item needs of others are slots, and those become free with items in groups before its own, since groups are aligned
// in the ring and are a part of it.

const (
	// maxGroup is how many items are given together at most.
	maxGroup = 2
	// groupShare is how many groups the ring has at least: one is filled, one is added, one is drained, and one goes ahead.
	groupShare = 4
	// groupRamp is how many times its items a group is away from both ends of its collective.
	groupRamp = 2
)

// group is some items that follow each other, by their places in the collective.
type group struct{ first, items uint32 }

func (g group) last() uint32 { return g.first + g.items - 1 }

// groups walks the groups of a collective. It is a value.
type groups struct {
	next, items uint32
	seq         uint32 // number of the first item
	most        uint32
}

// groupsOf returns the groups of a collective of so many items, the first of which has the number seq.
func (g *Geometry) groupsOf(seq, items uint32) groups {
	return groups{items: items, seq: seq, most: g.mostInGroup(items)}
}

// mostInGroup returns how many items are given together in a collective of so many.
func (g *Geometry) mostInGroup(items uint32) uint32 {
	most := uint32(1)
	for 2*most <= min(maxGroup, uint32(g.slots)/groupShare, items/(2*groupRamp+1)) {
		most *= 2
	}
	return most
}

// peek returns the next group, of no items after the last.
func (g *groups) peek() group {
	left := g.items - g.next
	n := min(g.most, left)
	for n > 1 && ((g.seq+g.next)%n != 0 || groupRamp*n > min(g.next, left)) {
		n /= 2
	}
	return group{g.next, n}
}

// Job is a collective as a rank's device sees it.
type Job struct {
	Route
	First, Items  uint32 // the number of its first item, and how many there are
	Chunk         int64  // size of its largest item
	Fills, Drains bool   // what the device does
}

// Step is one thing that a device is given: copies between a wait and a flag. Without copies it is the flag of the copies before
// in its direction, which cannot be given with the next wait.
type Step struct {
	Drain bool   // out of slots, not into them
	Seq   uint32 // what is waited for, and flagged: the last item that has copies
	Runs  []Run
}

// side is one direction of a job.
type side struct {
	drain, active bool
	groups        groups // those before its next place have been given
	cursor        schedule.Cursor
	flagged       uint32 // and their flags before this place
}

func (s *side) more() bool { return s.groups.next < s.groups.items }

// programmer gives the steps of a job.
type programmer struct {
	t       *Transfers
	job     *Job
	in, out side
	runs    []Run
	do      func(*Step)
}

// Program calls do with what a device is given for a job, in order. The runs are kept in scratch, which is returned.
func (t *Transfers) Program(j *Job, scratch []Run, do func(*Step)) []Run {
	groups := t.geometry.groupsOf(j.First, j.Items)
	p := programmer{
		t: t, job: j, runs: scratch, do: do,
		in:  side{active: j.Fills, groups: groups, cursor: j.Plan.Items(j.Chunk)},
		out: side{active: j.Drains, groups: groups, cursor: j.Plan.Items(j.Chunk), drain: true},
	}
	for p.in.more() {
		p.free(int64(p.in.groups.peek().last()) + 1 - int64(t.geometry.slots))
		p.give(&p.in)
	}
	p.flag(&p.in)
	for p.out.more() {
		p.give(&p.out)
	}
	p.flag(&p.out)
	return p.runs
}

// free gives what frees the slots of all items before a place.
func (p *programmer) free(place int64) {
	for int64(p.out.groups.next) < place {
		p.giveDrain()
	}
	if int64(p.out.flagged) >= place {
		return
	}
	if next := p.out.groups.peek(); next.last() < p.in.flagged {
		p.giveDrain()
	}
	if int64(p.out.flagged) < place {
		p.flag(&p.out)
	}
}

// giveDrain gives the next drains, whose items have been filled.
func (p *programmer) giveDrain() {
	if p.in.flagged <= p.out.groups.peek().last() {
		p.flag(&p.in)
	}
	p.give(&p.out)
}

// give gives the next group of a side.
func (p *programmer) give(s *side) {
	g := s.groups.peek()
	step := Step{Drain: s.drain, Runs: p.runs[:0]}
	for place := g.first; place <= g.last(); place++ {
		cut, _ := s.cursor.Next()
		seq, had := p.job.First+place, len(step.Runs)
		switch {
		case !s.active:
		case s.drain:
			step.Runs = p.t.Drains(step.Runs, &p.job.Route, cut, seq)
		default:
			step.Runs = p.t.Fills(step.Runs, &p.job.Route, cut, seq)
		}
		if len(step.Runs) > had {
			step.Seq, step.Runs = seq, join(step.Runs, had)
		}
	}
	p.runs = step.Runs
	if len(step.Runs) > 0 {
		p.do(&step)
		s.flagged = g.first
	} else {
		p.flag(s) // there may be no next wait for long
		s.flagged = g.last() + 1
	}
	s.groups.next = g.last() + 1
}

// flag gives the flag of all that has been given.
func (p *programmer) flag(s *side) {
	if s.flagged < s.groups.next {
		p.do(&Step{Drain: s.drain})
		s.flagged = s.groups.next
	}
}

// maxStride bounds how far the rows of a copy are apart: CUDA takes less than 2 GiB.
const maxStride = 1 << 30

// join makes runs from the given one on parts of those before them where all are the rows of one copy.
func join(runs []Run, from int) []Run {
	all := runs
	runs = runs[:from]
	for _, run := range all[from:] {
		if n := len(runs); n == 0 || !runs[n-1].join(&run) {
			runs = append(runs, run)
		}
	}
	return runs
}

// join adds the rows of the next run to its own if they follow evenly.
func (r *Run) join(next *Run) bool {
	if next.Buffer != r.Buffer+r.Total() {
		return false
	}
	stride := r.Stride
	if r.Rows == 1 {
		if stride = next.Segment - r.Segment; next.Rows == 1 && stride == r.Bytes {
			r.Bytes += next.Bytes
			return true
		}
	}
	if next.Bytes != r.Bytes || stride < r.Bytes || stride > maxStride || next.Rows > 1 && next.Stride != stride || next.Segment != r.Segment+int64(r.Rows)*stride {
		return false
	}
	r.Stride = stride
	r.Rows += next.Rows
	return true
}
