// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"time"
)

// Action is what a rule does.
type Action string

// The actions, by their names in the language.
const (
	Delay     Action = "delay"
	Drop      Action = "drop"
	Reset     Action = "reset"
	HalfClose Action = "half-close"
	Partial   Action = "partial"
	Corrupt   Action = "corrupt"
	Partition Action = "partition"
	Kill      Action = "kill"
	Stop      Action = "stop"
	Abort     Action = "abort"
	Pause     Action = "pause"
)

// ofProcess reports whether the action is taken by a process inside a collective, not by a link.
func (a Action) ofProcess() bool { return a == Kill || a == Stop || a == Abort || a == Pause }

// Plan is what Parse returns. It does not change, and may be shared.
type Plan struct {
	seed  uint64
	rules []rule
}

// rule is one rule of a plan. A set that is nil, and a number that is 0, asks for nothing.
type rule struct {
	action  Action
	hold    time.Duration // delay, pause
	amount  int           // partial: bytes; corrupt: bits
	sides   [2]set        // partition
	heal    time.Duration // partition: 0 for never
	rank    set
	peer    set
	landing set
	seq     set
	call    set
	stage   string
	comm    string
	after   uint64
	p       float64
	times   uint64 // 0 for no bound
}

// set is what a SET of the language lists.
type set []span

// span is the numbers from lo to hi.
type span struct{ lo, hi uint64 }

// has reports whether the set lists n. A nil set lists everything.
func (s set) has(n uint64) bool {
	for _, x := range s {
		if x.lo <= n && n <= x.hi {
			return true
		}
	}
	return s == nil
}

// crosses reports whether a message between two ranks can be meant by the rule.
func (r *rule) crosses(from, to int) bool {
	a, b := uint64(from), uint64(to)
	if r.action == Partition {
		return r.sides[0].has(a) && r.sides[1].has(b) || r.sides[1].has(a) && r.sides[0].has(b)
	}
	return !r.action.ofProcess() && r.rank.has(a) && r.peer.has(b)
}

// chance reports whether p= is met, which follows from the seed, the number of the rule and what is hashed.
func (p *Plan) chance(rule int, what ...uint64) bool {
	x := p.rules[rule].p
	return x >= 1 || float64(p.hash(rule, what...)>>11)/(1<<53) < x
}

// hash mixes numbers with the seed and the number of a rule.
func (p *Plan) hash(rule int, what ...uint64) uint64 {
	h := mix(mix(p.seed) ^ uint64(rule))
	for _, v := range what {
		h = mix(h ^ v)
	}
	return h
}

// mix is a step of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Check finds ranks that a world of n ranks does not have.
func (p *Plan) Check(n int) error {
	for i := range p.rules {
		r := &p.rules[i]
		for _, s := range []set{r.rank, r.peer, r.sides[0], r.sides[1]} {
			for _, x := range s {
				if x.hi >= uint64(n) {
					return fmt.Errorf("rule %d %q: rank %d does not exist, the ranks are 0 to %d", i+1, r.String(), x.hi, n-1)
				}
			}
		}
	}
	return nil
}

// NeedsProcesses returns the first rule that ends or stops a process, "" if there is none: ranks that share a process would
// all be gone.
func (p *Plan) NeedsProcesses() string {
	for i := range p.rules {
		if a := p.rules[i].action; a == Kill || a == Stop {
			return p.rules[i].String()
		}
	}
	return ""
}
