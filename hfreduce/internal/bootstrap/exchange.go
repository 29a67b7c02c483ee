// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"slices"
)

// exchanges is the hub's book of running exchanges: pure, without locks. Calls give the messages that follow.
type exchanges struct {
	open map[string][]*exchange // by key; several only if their members are disjoint
}

// exchange collects one part of each member.
type exchange struct {
	key     string
	members []int
	parts   [][]byte
	has     []bool
	missing int
	bytes   int
}

// delivery is one message for several ranks.
type delivery struct {
	to    []int
	frame []byte
}

func newExchanges() *exchanges { return &exchanges{open: map[string][]*exchange{}} }

// contribute takes rank's part. gone tells why a member cannot take part any more, or nil.
func (x *exchanges) contribute(rank int, key string, members []int, part []byte, gone func(int) *failure) []delivery {
	for _, m := range members {
		if f := gone(m); f != nil {
			return []delivery{{[]int{rank}, resultFrame(key, f, nil)}}
		}
	}
	var out []delivery
	var clash *failure
	for _, e := range slices.Clone(x.open[key]) {
		if slices.Equal(e.members, members) {
			return x.add(e, rank, part)
		}
		if both, ok := common(e.members, members); ok {
			clash = failuref(codeMismatch, "%s lists %s as members, others list %s; %s is in both",
				FormatRanks([]int{rank}), FormatRanks(members), FormatRanks(e.members), FormatRanks([]int{both}))
			out = append(out, x.fail(e, clash))
		}
	}
	if clash != nil {
		return append(out, delivery{[]int{rank}, resultFrame(key, clash, nil)})
	}
	e := &exchange{key: key, members: slices.Clone(members), parts: make([][]byte, len(members)),
		has: make([]bool, len(members)), missing: len(members)}
	x.open[key] = append(x.open[key], e)
	return x.add(e, rank, part)
}

func (x *exchanges) add(e *exchange, rank int, part []byte) []delivery {
	i := slices.Index(e.members, rank)
	switch {
	case i < 0 || e.has[i]:
		f := failuref(codeMismatch, "rank %d is no member, or used the key twice", rank)
		return []delivery{{[]int{rank}, resultFrame(e.key, f, nil)}}
	case e.bytes+len(part) > maxExchange:
		return []delivery{x.fail(e, failuref(codeOther, "all parts together exceed %d bytes", maxExchange))}
	}
	e.parts[i], e.has[i] = part, true
	e.missing--
	e.bytes += len(part)
	if e.missing > 0 {
		return nil
	}
	x.remove(e)
	return []delivery{{e.members, resultFrame(e.key, nil, e.parts)}}
}

// overdue tells a rank that gives an exchange up who is missing in it. The others go on waiting, since rank's part is there.
func (x *exchanges) overdue(rank int, key string) []delivery {
	for _, e := range x.open[key] {
		i := slices.Index(e.members, rank)
		if i < 0 || !e.has[i] {
			continue
		}
		var missing []int
		for i, m := range e.members {
			if !e.has[i] {
				missing = append(missing, m)
			}
		}
		return []delivery{{[]int{rank}, resultFrame(key, failuref(codeTimeout, "waiting for %s", FormatRanks(missing)), nil)}}
	}
	return nil // it has ended: the result is on its way
}

// lose fails all exchanges that rank is a member of.
func (x *exchanges) lose(rank int, f *failure) []delivery {
	var out []delivery
	for _, open := range x.open {
		for _, e := range slices.Clone(open) {
			if slices.Contains(e.members, rank) {
				out = append(out, x.fail(e, f))
			}
		}
	}
	return out
}

// fail ends e and tells those who have contributed.
func (x *exchanges) fail(e *exchange, f *failure) delivery {
	x.remove(e)
	var to []int
	for i, m := range e.members {
		if e.has[i] {
			to = append(to, m)
		}
	}
	return delivery{to, resultFrame(e.key, f, nil)}
}

func (x *exchanges) remove(e *exchange) {
	rest := slices.DeleteFunc(x.open[e.key], func(o *exchange) bool { return o == e })
	if len(rest) == 0 {
		delete(x.open, e.key)
		return
	}
	x.open[e.key] = rest
}

// common returns a rank that is in both lists.
func common(a, b []int) (int, bool) {
	in := make(map[int]bool, len(a))
	for _, m := range a {
		in[m] = true
	}
	for _, m := range b {
		if in[m] {
			return m, true
		}
	}
	return 0, false
}

// checkMembers verifies the arguments of an exchange on the rank that calls it.
func checkMembers(rank, worldSize int, members []int) error {
	seen := make(map[int]bool, len(members))
	for _, m := range members {
		if m < 0 || m >= worldSize || seen[m] {
			return fmt.Errorf("member %d is listed twice or not within 0..%d", m, worldSize-1)
		}
		seen[m] = true
	}
	if !seen[rank] {
		return fmt.Errorf("rank %d itself is not a member", rank)
	}
	return nil
}
