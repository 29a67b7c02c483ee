// SPDX-License-Identifier: Apache-2.0

package bootstrap

import "slices"

// A roll call finds out who of a set of ranks goes on together: it ends when every member that is neither lost nor closed
// has come, or at the deadline without those who have not. It is no exchange, which fails when a member is missing.

// rolls is the hub's book of roll calls: pure, without locks or clocks.
type rolls struct {
	open   map[string]*roll
	ended  map[string]*roll // the last one of each key
	absent map[int]bool     // ranks that one has ended without
	next   int
	first  int // epoch of the first of each key
}

// roll is one roll call.
type roll struct {
	key     string
	epoch   int // grows with each of a key, also from hub to hub
	id      int
	members []int
	parts   map[int][]byte // of those who came
}

// epochsPerHub keeps the epochs of a successor, which has a higher rank than the hubs before it, above theirs.
const epochsPerHub = 1 << 11

func newRolls(hub int) *rolls {
	return &rolls{open: map[string]*roll{}, ended: map[string]*roll{}, absent: map[int]bool{}, first: hub*epochsPerHub + 1}
}

// come takes a member in. opened is the id of a roll call that begins with it, whose deadline is to be watched, else 0.
func (x *rolls) come(rank int, key string, members []int, part []byte, gone func(int) *failure) (out []delivery, opened int) {
	last := x.ended[key]
	if last != nil {
		if _, there := last.parts[rank]; !there {
			return []delivery{{[]int{rank}, rollFrame(key, failuref(codeLost, "the other ranks have gone on without rank %d, which did not come in time", rank), nil)}}, 0
		}
		members = last.ranks() // who was left out then stays out
	}
	r := x.open[key]
	if r == nil {
		x.next++
		r = &roll{key: key, epoch: x.first, id: x.next, members: slices.Clone(members), parts: map[int][]byte{}}
		if last != nil {
			r.epoch = last.epoch + 1
		}
		x.open[key], opened = r, r.id
	}
	if !slices.Contains(r.members, rank) {
		return []delivery{{[]int{rank}, rollFrame(key, failuref(codeMismatch, "rank %d is no member: %s", rank, FormatRanks(r.members)), nil)}}, opened
	}
	r.parts[rank] = append([]byte{}, part...) // never nil
	return x.check(r, gone), opened
}

// withdraw takes a member back that does not wait any more, and tells it so, unless the roll call has ended with it.
func (x *rolls) withdraw(rank int, key string) []delivery {
	r := x.open[key]
	if r == nil || r.parts[rank] == nil {
		return nil
	}
	delete(r.parts, rank)
	return []delivery{{[]int{rank}, rollFrame(key, failuref(codeOther, "rank %d has withdrawn", rank), nil)}}
}

// lose is for a rank that is gone.
func (x *rolls) lose(rank int, gone func(int) *failure) (out []delivery) {
	for _, r := range x.open {
		delete(r.parts, rank)
		out = append(out, x.check(r, gone)...)
	}
	return out
}

// expire ends a roll call at its deadline.
func (x *rolls) expire(id int) []delivery {
	for _, r := range x.open {
		if r.id == id {
			return x.end(r)
		}
	}
	return nil
}

// check ends a roll call for which nobody is missing.
func (x *rolls) check(r *roll, gone func(int) *failure) []delivery {
	for _, m := range r.members {
		if _, there := r.parts[m]; !there && gone(m) == nil {
			return nil
		}
	}
	return x.end(r)
}

func (x *rolls) end(r *roll) []delivery {
	delete(x.open, r.key)
	if len(r.parts) == 0 {
		return nil
	}
	x.ended[r.key] = r
	for _, m := range r.members {
		if _, there := r.parts[m]; !there {
			x.absent[m] = true
		}
	}
	return []delivery{{r.ranks(), rollFrame(r.key, nil, r)}}
}

// ranks lists who came, in the members' order.
func (r *roll) ranks() []int {
	var ranks []int
	for _, m := range r.members {
		if _, there := r.parts[m]; there {
			ranks = append(ranks, m)
		}
	}
	return ranks
}
