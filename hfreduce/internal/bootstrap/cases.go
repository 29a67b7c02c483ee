// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"maps"
	"slices"
)

// Case is all that is known when ranks report a fault of what they share (a scope). It is judged once, by the hub, so that
// every member hears the same verdict.
type Case struct {
	Scope    string
	Members  []int
	Reporter int // the first
	Report   string
	Answers  map[int]string // what members answered in time when they were asked, by rank
	Lost     map[int]string // members that are lost, and why
	Closed   []int          // members that have said goodbye
}

// cases is the hub's book of faults: pure, without locks or clocks. Calls give the messages that follow.
type cases struct {
	open   map[string]*dispute
	judged map[string]bool
	next   int
	judge  func(Case) string
}

// dispute is a case that is open.
type dispute struct {
	id      int
	c       Case
	waiting map[int]bool // members that have not answered
}

func newCases(judge func(Case) string) *cases {
	return &cases{open: map[string]*dispute{}, judged: map[string]bool{}, judge: judge}
}

// report takes a report. The first of a scope opens its case (opened is its id, 0 if none is) and asks all members; later
// ones change nothing.
func (x *cases) report(c Case, gone func(int) *failure) (out []delivery, opened int) {
	if x.judged[c.Scope] || x.open[c.Scope] != nil {
		return nil, 0
	}
	x.next++
	c.Answers, c.Lost = map[int]string{}, map[int]string{}
	d := &dispute{id: x.next, waiting: map[int]bool{}, c: c}
	x.open[c.Scope] = d
	for _, m := range c.Members {
		switch f := gone(m); {
		case f == nil:
			d.waiting[m] = true
		case f.code == codeClosed:
			d.c.Closed = append(d.c.Closed, m)
		default:
			d.c.Lost[m] = f.text
		}
	}
	out = []delivery{{slices.Sorted(maps.Keys(d.waiting)), d.inquiry()}}
	return append(out, x.close(d, false)...), d.id
}

func (d *dispute) inquiry() []byte { return inquiryFrame(d.id, &d.c) }

// answer takes a member's answer to an inquiry; one that comes too late is dropped.
func (x *cases) answer(rank, id int, text string) []delivery {
	d := x.find(id)
	if d == nil || !d.waiting[rank] {
		return nil
	}
	delete(d.waiting, rank)
	d.c.Answers[rank] = text
	return x.close(d, false)
}

// lose notes that a rank is gone, in all open cases.
func (x *cases) lose(rank int, f *failure) (out []delivery) {
	for _, d := range x.open {
		if !slices.Contains(d.c.Members, rank) {
			continue
		}
		delete(d.waiting, rank)
		if f.code == codeClosed {
			d.c.Closed = append(d.c.Closed, rank)
		} else {
			d.c.Lost[rank] = f.text
		}
		out = append(out, x.close(d, false)...)
	}
	return out
}

// expire ends the wait for answers.
func (x *cases) expire(id int) []delivery {
	if d := x.find(id); d != nil {
		return x.close(d, true)
	}
	return nil
}

func (x *cases) find(id int) *dispute {
	for _, d := range x.open {
		if d.id == id {
			return d
		}
	}
	return nil
}

// close judges a case when nobody else is to be heard.
func (x *cases) close(d *dispute, late bool) []delivery {
	if len(d.waiting) > 0 && !late {
		return nil
	}
	delete(x.open, d.c.Scope)
	x.judged[d.c.Scope] = true
	return []delivery{{d.c.Members, abortFrame(kindVerdict, d.c.Reporter, d.c.Scope, x.judge(d.c))}}
}
